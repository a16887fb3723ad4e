"""The ``convspec`` command: one module for each sub-command, the reports that they write in ``reports``."""

from convspec.cli.app import main

__all__ = ["main"]
