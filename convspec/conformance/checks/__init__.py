"""Checks: the verdict on each trial.

``expected`` computes arrays and oracle of a case, ``checks`` runs and judges, ``diagnose`` explains wrong outputs.
"""
