"""Trials: which adapter runs which case in which way (``work_plan``); relations between runs (``metamorphic``)."""
