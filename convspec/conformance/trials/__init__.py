"""Trials: which adapter runs which case in which way (``work_plan``), and one run of a layer (``run_layer``).

``metamorphic`` has the relations that must hold between several runs.
"""
