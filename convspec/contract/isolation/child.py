"""The main module of every child process: ``python -P -m convspec.contract.isolation.child PARENT FOLDER MODULE``.

It forks the reaper, redirects what frameworks print from standard output to standard error, and calls
``serve(requests, replies)`` of the module. It imports nothing that starts a thread before the fork.
"""

from __future__ import annotations

import importlib
import os
import sys

from convspec.contract.isolation.reaper import forbid_core_dumps, fork_reaper


def main() -> None:
    """Serve until the pipe is closed or the parent has ended."""
    parent, folder, module = sys.argv[1:]
    fork_reaper(int(parent), folder)
    replies = os.dup(1)
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    forbid_core_dumps()
    importlib.import_module(module).serve(requests, replies)
    os._exit(0)  # threads and destructors of frameworks have hung or aborted at the interpreter's exit


if __name__ == "__main__":
    main()
