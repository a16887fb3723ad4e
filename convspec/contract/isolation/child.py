"""The first module of every child process: ``python -P -m convspec.contract.isolation.child PARENT MODULE``.

It puts a reaper between itself and the parent, keeps what frameworks print away from the answers, and has
``serve(requests, replies)`` of the module answer. It imports nothing that starts a thread before it has forked.
"""

from __future__ import annotations

import importlib
import os
import sys

from convspec.contract.isolation.reaper import keep


def main() -> None:
    """Serve until the pipe is closed or the parent is gone."""
    keep(int(sys.argv[1]))
    replies = os.dup(1)
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _refuse_core_dumps()
    importlib.import_module(sys.argv[2]).serve(requests, replies)
    # frameworks' threads and destructors have been seen to hang or abort at interpreter exit: leave without them
    os._exit(0)


def _refuse_core_dumps() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


if __name__ == "__main__":
    main()
