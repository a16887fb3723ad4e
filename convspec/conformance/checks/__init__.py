"""Checks: the verdict on each trial.

``expected`` computes arrays and oracle of a case, ``checks`` runs, judges, and explains wrong outputs.
"""
