"""A prepared program is to a test what a new interpreter is."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import prepared

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there a program has an interpreter of its own")

PROBE = """
import json, os, signal, sys
def state(number):
    try:
        return os.fstat(number).st_mode >> 12
    except OSError:
        return None
streams = [s and (s.name, s.encoding, s.errors, s.line_buffering, s.mode) for s in (sys.stdin, sys.stdout, sys.stderr)]
print(json.dumps([
    sys.argv, os.getppid(), os.getcwd(), os.getsid(0) == os.getpid(), sorted(os.environ.items()), streams, __name__,
    sys.path, [state(number) for number in range(12)], [repr(signal.getsignal(n)) for n in range(1, 32)],
    sys.stdin and sys.stdin.read(), sys.modules["__main__"].__dict__ is globals(),
]), file=sys.stderr if sys.stdout is None else sys.stdout)
"""


def both(arguments, **options):
    """How a new interpreter ends with the arguments, and how a prepared one does."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    options = {"env": dict(os.environ), **options}  # what libraries set in C, os.environ does not have
    programs = (
        subprocess.Popen([sys.executable, *arguments], **pipes, **options),
        prepared.Program(*arguments, **pipes, **options),
    )
    for program in programs:
        with program:
            yield *program.communicate(b"text"), program.wait()


@pytest.mark.parametrize(
    "options", [{}, {"cwd": "/"}, {"start_new_session": True}, {"env": {"PATH": "/bin", "A": "1"}}]
)
def test_a_program_is_as_in_an_interpreter_of_its_own(options, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    real, made = both(["-c", PROBE, "a", "b c"], **options)
    assert made == real
    assert real[0].startswith(b'[["-c", "a", "b c"]')


@pytest.mark.parametrize("redirection", ["", "<&-", ">&-", "2>&-", "<&- 2>&-"])
def test_a_line_of_the_shell_is_too(redirection):
    def found(python):
        line = f"{python} -c {shlex.quote(PROBE.replace('os.getppid()', '0'))} x {redirection}"
        return subprocess.run(["bash", "-c", line], capture_output=True, check=False, input=b"text")

    real, made = found(sys.executable), found(prepared.python(os.environ))
    assert (made.returncode, made.stdout, made.stderr) == (real.returncode, real.stdout, real.stderr)
    assert b"dev" not in real.stderr


@pytest.mark.parametrize(
    "code",
    ["import sys; sys.exit(3)", "import sys; sys.exit('why')", "raise SystemExit", "import os; os.abort()",
     "import atexit; atexit.register(print, 'last')", "import sys; sys.stdout.write('x'); import os; os.close(1)",
     "import os; os.kill(os.getpid(), 15)", "import threading; threading.Timer(0.1, print, ['late']).start()"],
)  # fmt: skip
def test_it_ends_as_one(code):
    real, made = both(["-c", code])
    assert made == real
    line = f"{prepared.python(os.environ)} -c {shlex.quote(code)}"
    done = subprocess.run(["bash", "-c", f"exec {line}"], capture_output=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == real


def test_it_is_killed_as_one():
    program = prepared.Program("-c", "print(1, flush=True); import time; time.sleep(60)", stdout=subprocess.PIPE)
    assert program.stdout.readline() == b"1\n"
    assert f"\nPPid:\t{os.getpid()}\n" in Path(f"/proc/{program.pid}/status").read_text()
    program.kill()
    with program:
        assert program.wait() == -signal.SIGKILL
    assert program.stdout.closed


def test_a_client_that_is_killed_takes_its_program_along():
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    line = f"exec {prepared.python(os.environ)} -c {shlex.quote(code)}"
    with subprocess.Popen(["bash", "-c", line], stdout=subprocess.PIPE) as client:
        assert int(client.stdout.readline()) != client.pid
        client.kill()
        assert client.stdout.read() == b""  # its end holds no more
    with subprocess.Popen(["bash", "-c", line], stdout=subprocess.PIPE) as client:
        client.stdout.readline()
        client.terminate()
        assert client.wait() == -signal.SIGTERM
