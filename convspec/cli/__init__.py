"""The ``convspec`` command: one module for each sub-command, and their reports in ``reports``."""

from convspec.cli.app import main

__all__ = ["main"]
