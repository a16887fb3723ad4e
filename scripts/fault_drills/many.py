"""Run many requests in this process: ``many.py REQUESTS.json SECONDS``; one line of JSON for the end of each."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path

from typer.testing import CliRunner

from convspec.cli.app import app
from convspec.contract.isolation import limit_memory

_MEMORY = 4 << 30


def main() -> None:
    """Run each request under the time limit, which ends the process."""
    limit_memory(_MEMORY)
    replies = os.fdopen(os.dup(1), "w")
    for words in json.loads(Path(sys.argv[1]).read_text("utf-8")):
        signal.alarm(int(sys.argv[2]))
        done = CliRunner().invoke(app, words)
        signal.alarm(0)
        error = done.exception
        trace = "" if error is None or isinstance(error, SystemExit) else "".join(traceback.format_exception(error))
        replies.write(json.dumps([done.exit_code, done.stdout, done.stderr + trace]) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
