"""A child that does what the parent's messages say."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from convspec.contract.isolation import encode, send


def serve(requests, replies):
    for line in requests:
        command, *arguments = json.loads(line)
        if command == "echo":
            send(replies, encode(arguments[0]))
        elif command == "twice":
            send(replies, encode(arguments[0]) + encode(arguments[1]))
        elif command == "variable":
            send(replies, encode([os.environ.get(name) for name in arguments]))
        elif command == "folder":
            send(replies, encode(str(Path.cwd())))
        elif command == "files":
            send(replies, encode([file.name for file in Path("/proc/self/fd").iterdir()]))
        elif command == "print":
            print(arguments[0], flush=True)
            send(replies, encode("printed"))
        elif command == "raw":
            os.write(replies, arguments[0].encode())
        elif command == "long":
            for _ in range(arguments[0]):
                os.write(replies, b"x" * 65536)
        elif command == "sleep":
            time.sleep(arguments[0])
        elif command == "exit":
            os._exit(arguments[0])
        elif command == "signal":
            os.kill(os.getpid(), arguments[0])
        elif command == "ignore":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            send(replies, encode(os.getpid()))
        elif command == "spawn":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
            send(replies, encode([os.getpid(), child.pid]))
