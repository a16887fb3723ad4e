"""pytest plug-in: note what each test runs (``--map``), or run chosen tests on mutants, each in a fork (``--jobs``).

A fork begins after all modules are imported, or before that (``--early``) where a framework does not survive it.

A fork replaces the code of the mutated function where it is loaded already; the hook does the same where the module is
imported later, and in child processes. The first test that fails, or takes far longer than it should, ends the fork.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

_MEMORY = 12 << 30
_SLOWER = int(os.environ.get("SELF_MUTATION_SLOWER", "10"))  # times what a test took, and so many seconds


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--only", help="file with the names of the test files to collect")
    parser.addoption("--map", help="folder that gets the tests with their seconds")
    parser.addoption("--jobs", help="file with mutants and tests, a JSON object a line")
    parser.addoption("--early", action="store_true", help="fork before modules are imported: for JAX, slower")
    parser.addoption("--results", help="file that gets a line for each job")


def pytest_configure(config: pytest.Config) -> None:
    from hypothesis import settings

    settings.register_profile("self-mutation", database=None, derandomize=True, deadline=None)
    settings.load_profile("self-mutation")
    if config.option.map:
        config.pluginmanager.register(_Map(Path(config.option.map)))
    if config.option.jobs:
        mutants = _Mutants(config)
        if config.option.early:
            mutants.fork_early()
        config.pluginmanager.register(mutants)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out other files; files that are arguments would pass the project's own hook."""
    if collection_path.suffix != ".py":
        return None
    chosen = Path(config.option.only).read_text("utf-8").split("\n")
    return None if str(collection_path.relative_to(config.rootpath)) in chosen else True


class _Map:
    def __init__(self, folder: Path) -> None:
        self._file = (folder / "tests").open("a")
        self._number = 0

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._number += 1
        os.environ["SELF_MUTATION_TEST"] = str(self._number)
        _clear_caches()
        self._seconds, self._passed = 0.0, True
        try:
            return (yield)
        finally:
            self._file.write(json.dumps([self._number, item.nodeid, round(self._seconds, 4), self._passed]) + "\n")
            self._file.flush()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        """Count what a fixture of a file or a class runs to all tests of the file."""
        before = os.environ.get("SELF_MUTATION_TEST", "")
        if fixturedef.scope != "function":
            os.environ["SELF_MUTATION_TEST"] = f"-{self._number}"
        try:
            return (yield)
        finally:
            os.environ["SELF_MUTATION_TEST"] = before

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds += report.duration
        self._passed &= not report.failed and not report.skipped


class _Mutants:
    def __init__(self, config: pytest.Config) -> None:
        self._jobs = [json.loads(line) for line in Path(config.option.jobs).read_text().splitlines()]
        self._results = Path(config.option.results)
        self._name = -1  # of the file that gets the last test, in a process that has one job

    def fork_early(self) -> None:
        """Return in processes that have one job each; this one waits for them and ends."""
        for job in self._jobs:
            began, name = time.monotonic(), os.memfd_create("test")
            process = os.fork()
            if process == 0:
                os.setsid()
                self._jobs, self._name = [job], name
                return
            self._write(job, *_wait(process, job, name), began)
        os._exit(0)

    def _write(self, job: dict[str, Any], verdict: str, test: str | None, began: float) -> None:
        with self._results.open("a") as file:
            kept = {"verdict": verdict, "test": test, "test_file": _digest(test)}
            kept |= {"seconds": round(time.monotonic() - began, 2), "at": time.time()}
            file.write(json.dumps({**job["is"], **kept}) + "\n")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        files = {job["file"] for job in self._jobs}
        functions = [f for f in gc.get_objects() if type(f) is FunctionType and f.__code__.co_filename in files]
        factory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        gc.freeze()
        for job in self._jobs:
            began, tests = time.monotonic(), [items[test] for test in job["seconds"] if test in items]
            if self._name >= 0:
                _execute(job, tests, functions, self._name)
            name = os.memfd_create("test")  # the last test that began; a pipe that nobody reads would fill up
            process = os.fork()
            if process == 0:
                os.setsid()
                _execute(job, tests, functions, name)
            verdict, test = _wait(process, job, name)
            for path in factory.getbasetemp().iterdir():
                shutil.rmtree(path, ignore_errors=True)
            self._write(job, verdict, test, began)
        return True


def _digest(test: str | None) -> str:
    file = Path((test or "").partition("::")[0])  # below the current folder
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if test else ""


def _execute(job: dict[str, Any], tests: list[pytest.Item], functions: list[FunctionType], name: int) -> None:
    """Run the tests on a mutant, and end this process."""
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
        _plant(job, functions)
        _clear_caches()
        _run_tests(tests, job["seconds"], name)
    except BaseException as error:  # noqa: BLE001 – nothing may leave a fork
        os.write(sys.__stderr__.fileno(), f"{job['is']}: {error!r}\n".encode())
    os._exit(3)


def _wait(process: int, job: dict[str, Any], name: int) -> tuple[str, str | None]:
    """Return the verdict on a mutant, and the test that killed it."""
    limit = time.monotonic() + 60 + sum(_SLOWER + _SLOWER * seconds for seconds in job["seconds"].values())
    while not os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) and time.monotonic() < limit:
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):  # it may have ended before it had a group
        os.killpg(process, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    last = os.pread(name, 1 << 16, 0).decode() if status else ""
    os.close(name)
    if status and (status == 3 or not last):
        return "broken", None
    killed = "timeout" if status in (-signal.SIGALRM, -signal.SIGKILL) else "killed"
    return (killed if status else "survived"), last or None


def _run_tests(items: list[pytest.Item], seconds: dict[str, float], name: int) -> None:
    """Run tests and end this process: with status 1 at the first that fails."""
    for item, following in zip(items, [*items[1:], None][: len(items)], strict=True):
        os.ftruncate(name, 0)
        os.pwrite(name, item.nodeid.encode(), 0)
        signal.setitimer(signal.ITIMER_REAL, _SLOWER + _SLOWER * seconds[item.nodeid])
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
            os._exit(1)
        signal.setitimer(signal.ITIMER_REAL, 0)
    os._exit(0)


def _plant(job: dict[str, Any], functions: list[FunctionType]) -> None:
    """Put the fault into the functions that are loaded, and tell the hook."""
    file, function = job["file"], job["function"]
    os.environ["SELF_MUTANT"] = f"{file}\t{job['text']}"
    codes = {
        (c.co_qualname, c.co_firstlineno): c
        for c in _codes(compile(Path(job["text"]).read_text("utf-8"), file, "exec", dont_inherit=True))
    }
    for found in functions:
        old = found.__code__
        inner = old.co_qualname.startswith(f"{function}.<locals>.")
        if old.co_filename == file and (inner or old.co_qualname == function):
            mutated = codes.get((old.co_qualname, old.co_firstlineno))
            if mutated is not None and not (inner and mutated.co_freevars != old.co_freevars):
                found.__code__ = mutated


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _clear_caches() -> None:
    """Empty the caches of convspec's functions: they would answer instead of a mutant."""
    for name, module in list(sys.modules.items()):
        if name.startswith("convspec"):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
