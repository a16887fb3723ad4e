"""Run units of work on local worker processes.

In go problems; out come one outcome per trial, and the targets that cannot run. ``scheduler`` deals the units out to
the workers of ``worker_pool``; ``shared_arrays`` computes their arrays ahead; ``worker`` runs in the child process.
"""
