"""``client.py ADDRESS WORDS`` is ``python WORDS``, run by a server; it ends as that does, and hands on signals."""

import _signal
import _socket
import array
import marshal
import os
import sys


def main(address, *words):
    files = [number for number in range(3) if _open(number)]
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.connect(f"\0{address}")
    request = {
        "words": words, "environment": dict(os.environ), "folder": os.getcwd(),  # noqa: PTH109 – imports nothing
        "files": files, "session": False,
    }  # fmt: skip
    data = marshal.dumps(request)
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", files))] if files else []
    connection.sendmsg([len(data).to_bytes(4, "big") + data], rights)
    program, _, status = connection.recv(64).partition(b"\n")
    for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP):
        _signal.signal(number, lambda received, _: os.kill(int(program), received))
    for number in files:  # that the program alone holds them
        os.close(number)
    code = int(status or connection.recv(16))
    if code < 0:
        _signal.signal(-code, _signal.SIG_DFL) if -code != _signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code)


def _open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


main(*sys.argv[1:])
