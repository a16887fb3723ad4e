"""A Dask cluster as the place of a run: rules on resources and versions, and a real scheduler with real workers."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from asyncio import CancelledError
from contextlib import contextmanager
from pathlib import Path

import pytest

import convspec
from convspec import Case, ConvSpec, ExecutorError, RequestError
from convspec.conformance import journal
from convspec.conformance.environment import Inventory
from convspec.conformance.remote import dask_cluster as module
from convspec.conformance.remote import executor
from convspec.conformance.remote.dask_cluster import Cluster, ClusterWarning
from convspec.conformance.trials.work_plan import Target
from tests import prepared

FAKES = Path(__file__).parents[1] / "fakes"
CASES = [Case(ConvSpec(3, 3 if n == 5 else 2 + 2 * (n % 3), (1, 3)), (2, 3, 5, 7), seed=n) for n in range(12)]
NAMES = ["convspec_fakes:GOOD", "convspec_fakes:SEGFAULTS"]
GOOD, SEGFAULTS = NAMES


def plain(report):
    found = [result.to_dict() for result in report.results]
    for result in found:
        del result["seconds"]
        result["evidence"].pop("first", None)
    return found, [tally.to_dict() for tally in report.gaps], report.summary


# -- the rules, with a client that answers from a table --------------------------------------------------------------


def has(absent=(), version="2.5.0", convspec_version=convspec.__version__):
    about = {"convspec": convspec_version, "python": "3", "system": "L", "machine": "x", "cpu": "C", "versions": {}}
    return Inventory(about, {name: {"fakeframe": version} for name in NAMES}, dict.fromkeys(absent, "not there"))


class Client:
    """A cluster of workers with resources, each with what it answers."""

    status = "running"

    def __init__(self, *workers):
        self.workers = {f"tcp://w{n}:1": worker for n, worker in enumerate(workers)}

    def scheduler_info(self, n_workers):
        assert n_workers == -1
        return {"workers": {at: {"nthreads": 2, "resources": worker[0]} for at, worker in self.workers.items()}}

    def run(self, function, *_, workers, on_error):
        return {at: self.workers[at][1] for at in workers}

    def get_executor(self, resources, pure):
        assert pure is False
        return resources


@pytest.fixture
def of(monkeypatch):
    def cluster(*workers, address="tcp://127.0.0.1:1", tell=None):
        monkeypatch.setattr(module, "_connect", lambda _: Client(*workers))
        return Cluster(address, tell)

    return cluster


def test_without_declared_resources_work_goes_anywhere(of):
    cluster = of(({}, has()), ({}, has()))
    site = cluster.installation(NAMES, ["cpu"], None)
    assert (list(site.adapters), site.jobs, site.environment["cores"]) == (NAMES, 8, 4)
    assert site.environment["versions"]["fakeframe"] == "2.5.0"
    assert [(kind["count"], kind["threads"]) for kind in site.environment["workers"]] == [(2, 2)]
    assert cluster(Target(GOOD)) is None


def test_a_device_is_demanded_whatever_else_is_declared(of):
    cluster = of(({"cuda": 1}, has()), ({}, has()))
    assert list(cluster.installation(NAMES, ["cpu", "cuda"], 3).adapters) == NAMES
    assert cluster(Target(GOOD, device="cuda:1")) == {"cuda": 1.0}
    assert cluster(Target(GOOD)) is None


def test_a_device_that_nobody_declares_is_refused_with_the_way_out(of):
    cluster = of(({"GPU\x1b": 1}, has()), ({}, has()))
    with pytest.raises(RequestError) as caught:
        cluster.installation(NAMES, ["cuda"], None)
    assert str(caught.value) == (
        "device='cuda' with adapter 'good' must have a worker that declares the resources cuda, and none of the 2 at "
        "tcp://127.0.0.1:1 does (declared: GPU\\x1b). Start one: dask worker tcp://127.0.0.1:1 --resources 'cuda=1', "
        "or ask for other devices or adapters"
    )


def test_once_a_worker_names_an_adapter_every_adapter_must_be_named(of):
    cluster = of(({"good": 1}, has(absent=[SEGFAULTS])), ({"segfaults": 4, "cuda": 1}, has(absent=[GOOD])))
    assert list(cluster.installation(NAMES, ["cpu"], None).adapters) == NAMES
    assert cluster(Target(GOOD)) == {"good": 0.0}
    assert cluster(Target(SEGFAULTS, device="cuda")) == {"cuda": 1.0, "segfaults": 0.0}
    with pytest.raises(RequestError, match="a worker that declares the resources cuda and good, and none of the 2"):
        cluster.installation(NAMES, ["cuda"], None)
    with pytest.raises(RequestError, match="adapter 'good' must have a worker that declares the resource good, as oth"):
        of(({"keras": 1}, has())).installation([GOOD], ["cpu"], None)


def test_an_adapter_that_some_workers_lack_must_be_declared_by_the_others(of):
    cluster = of(({}, has()), ({}, has(absent=[GOOD])))
    with pytest.raises(RequestError, match=r"not there on 1 of 2 workers \(tcp://w1:1\); .* --resources good=1"):
        cluster.installation(NAMES, ["cpu"], None)
    with pytest.raises(RequestError, match="not there on the workers"):
        of(({}, has(absent=[GOOD]))).installation(NAMES, ["cpu"], None)


def test_workers_of_different_versions_make_no_run(of):
    with pytest.raises(RequestError, match=r"differ in fakeframe: 2.5.0 on tcp://w0:1; 2.6 on tcp://w1:1. All workers"):
        of(({}, has()), ({}, has(version="2.6"))).installation(NAMES, ["cpu"], None)
    both = of(({}, has(version="2.5.0+cpu")), ({}, has(version="2.5.0+cu130"))).installation(NAMES, ["cpu"], None)
    assert both.versions[GOOD] == {"fakeframe": "2.5.0+cpu / 2.5.0+cu130"}


def test_workers_need_this_convspec(of):
    with pytest.raises(RequestError, match=f"has convspec 9.9, which must be {convspec.__version__} as here"):
        of(({}, has(convspec_version="9.9"))).installation(NAMES, ["cpu"], None)
    broken = ModuleNotFoundError("No module named 'convspec'")
    with pytest.raises(RequestError, match="tcp://w1:1 cannot run convspec: ModuleNotFoundError: No module named"):
        of(({}, has()), ({}, broken)).installation(NAMES, ["cpu"], None)
    named = of(({"good": 1}, has()), ({}, broken))
    assert list(named.installation([GOOD], ["cpu"], None).adapters) == [GOOD], "it gets none of the work"


def test_other_versions_than_here_are_told_and_those_of_the_workers_are_reported(of):
    told = []
    site = of(({}, has(version="2.7")), tell=told.append).installation(NAMES, ["cpu"], None)
    assert told == ["the workers have fakeframe 2.7, this machine 2.5.0; the report is about the workers' version"]
    assert site.environment["versions"]["fakeframe"] == "2.7"


def test_a_cluster_without_workers_is_refused(of):
    cluster = of()
    with pytest.raises(RequestError, match=r"must have a worker, and has none\. Start one: dask worker tcp://127"):
        cluster.installation(NAMES, ["cpu"], None)


@pytest.mark.parametrize("address", ["tcp://10.1.2.3:8786", "somewhere:8786", "ws://h:1", "tcp://[2001:db8::1]:1"])
def test_what_is_readable_on_the_way_is_warned_of(of, address):
    with pytest.warns(ClusterWarning, match="neither encrypted nor authenticated"):
        of(({}, has()), address=address)


@pytest.mark.parametrize("address", ["tls://h:1", "127.0.0.1:1", "tcp://[::1]:1", "tcp://localhost:1", "wss://h:1"])
def test_what_is_private_is_not(of, address):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        of(({}, has()), address=address)
    assert caught == []


@pytest.mark.parametrize("address", ["", "nowhere", "tcp://h", "tcp://h:x", "\x1b[2J:1/"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(RequestError, match=r"dask=.* must be the address of a scheduler, with its port"):
        Cluster(address)


def test_missing_dask_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RequestError, match=r"needs distributed, which is not installed: pip install .*\[dask\b"):
        Cluster("tcp://127.0.0.1:1")


def test_work_without_a_worker_left_is_told_once(of, monkeypatch):
    monkeypatch.setattr(module, "_LOOK", 0.0)
    told = []
    cluster = of(({"cuda": 1}, has()), ({}, has()), tell=told.append)
    cluster.installation(NAMES, ["cpu", "cuda"], None)
    cluster(Target(GOOD)), cluster(Target(GOOD, device="cuda"))
    cluster.look()
    assert told == []
    del cluster._client.workers["tcp://w0:1"]
    cluster.look()
    cluster.look()
    assert told == ["no worker that declares cuda is left: waiting for one"]
    cluster._client.status = "connecting"
    with pytest.raises(ExecutorError, match=r"the scheduler at .* is gone"):
        cluster.look()


@pytest.mark.parametrize("error", [OSError("Timed out"), RuntimeError("closed"), CancelledError()])
@pytest.mark.parametrize("method", ["run", "scheduler_info"])
def test_a_scheduler_that_ends_while_workers_are_asked_is_an_error_in_words(of, monkeypatch, method, error):
    def ends(*_, **__):
        raise error

    cluster = of(({}, has()))
    monkeypatch.setattr(cluster._client, method, ends)
    with pytest.raises(ExecutorError, match=r"the scheduler at tcp://127.0.0.1:1 is gone \("):
        cluster.installation(NAMES, ["cpu"], None)


# -- a real one ------------------------------------------------------------------------------------------------------


@contextmanager
def running(kind, *words):
    """A scheduler or worker of its own session."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(FAKES), *sys.path])}
    command = "-m", f"distributed.cli.dask_{kind}", *words, "--no-dashboard"
    process = prepared.Program(
        *command, modules=prepared.CLUSTER, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def a_scheduler():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with running("scheduler", "--host", "127.0.0.1", "--port", port) as process:
        until(lambda: reachable(port))
        yield process, f"tcp://127.0.0.1:{port}"


def reachable(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


def a_worker(address, folder, *words):
    return running("worker", address, "--nthreads", "1", "--no-nanny", "--local-directory", str(folder), *words)


def until(condition, patience=120.0):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"it did not happen within {patience} s")


def joined(address, number):
    with Cluster(address) as cluster:
        until(lambda: len(cluster._workers()) == number)


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """The address of a scheduler with two workers that take everything, and their process numbers."""
    folder = tmp_path_factory.mktemp("dask")
    with a_scheduler() as (_, address), a_worker(address, folder) as one, a_worker(address, folder) as two:
        joined(address, 2)
        yield address, (one.pid, two.pid)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    defaults = executor.Submitter.__init__.__kwdefaults__
    monkeypatch.setattr(executor.Submitter.__init__, "__kwdefaults__", {**defaults, "units": 4})


@pytest.fixture(scope="module")
def undisturbed():
    return plain(convspec.check(CASES, NAMES, layouts=["NCHW"]))


def tree(process):
    """The workers below a process, whichever of its threads started them; not the processes that try an import."""
    found, left = [], [process]
    while left:
        for children in Path(f"/proc/{left.pop()}/task").glob("*/children"):
            try:
                left += (more := [int(child) for child in children.read_text().split()])
            except OSError:
                continue
            found += more
    return [process for process in found if name_of(process) == "worker"]


def name_of(process):
    try:
        return Path(f"/proc/{process}/comm").read_text("utf-8", errors="replace").strip()
    except OSError:
        return ""


def alive(process):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def command(address, *words):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(FAKES), *sys.path])}
    # a process that was started in the background, as CI may be, ignores Ctrl-C, and its children do
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = listening + "from convspec.cli.app import main; main()"
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    return prepared.Program(
        "-c", code, "check", "--dask", address, *words, modules=prepared.CLUSTER, env=environment, text=True, **pipes
    )


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_a_cluster_gives_what_local_workers_give_and_a_crash_costs_no_dask_worker(there, undisturbed, tmp_path):
    address, processes = there
    with Cluster(address) as cluster:
        before = set(cluster._workers())
        report = convspec.check(CASES, NAMES, layouts=["NCHW"], executor=cluster, journal=tmp_path / "run.jsonl")
        assert set(cluster._workers()) == before
    assert plain(report) == undisturbed
    assert [r.verdict for r in report.results].count("crash") == 2
    assert all(alive(process) for process in processes)
    environment = journal.read(tmp_path / "run.jsonl").environment
    assert (environment["jobs"], environment["cores"], len(environment["workers"])) == (4, 2, 1)


def test_shards_and_resumed_runs_work_on_a_cluster(there, undisturbed, tmp_path):
    address, _ = there
    file = tmp_path / "run.jsonl"
    with Cluster(address) as cluster:
        halves = [convspec.check(CASES, NAMES, layouts=["NCHW"], executor=cluster, shard=(i, 2)) for i in (1, 2)]
        convspec.check(CASES, NAMES, layouts=["NCHW"], journal=file)
        os.truncate(file, file.stat().st_size // 2)
        assert plain(convspec.resume(file, executor=cluster)) == undisturbed
    assert [len(half.results) for half in halves] == [24, 24]


def test_a_worker_that_is_killed_in_mid_run_costs_nothing(there, undisturbed, tmp_path):
    address, _ = there
    file, orphans = tmp_path / "run.jsonl", []
    with a_worker(address, tmp_path) as doomed:
        joined(address, 3)

        def kill(_):
            if not orphans and (found := tree(doomed.pid)):
                orphans.extend(found)
                doomed.send_signal(signal.SIGKILL)

        with Cluster(address) as cluster:
            report = convspec.check(
                CASES * 4, NAMES, layouts=["NCHW"], executor=cluster, journal=file, jobs=9, progress=kill
            )
    assert orphans, "it was never at work"
    assert doomed.returncode == -signal.SIGKILL
    entries = [json.loads(line) for line in file.read_bytes().splitlines()[2:]]
    keys = [(e["index"], e["request"], e["data"]) for e in entries if "verdict" in e]
    assert len(keys) == len(set(keys)) == 4 * 48
    assert {r.verdict for r in report.results if r.case.spec.out_channels != 3} == {"agree"}
    until(lambda: not any(alive(process) for process in orphans), 5)


def test_each_adapter_goes_to_a_worker_that_declares_it(tmp_path):
    with a_scheduler() as (_, address):
        one = a_worker(address, tmp_path, "--resources", "good=1")
        two = a_worker(address, tmp_path, "--resources", "segfaults=1 cuda=1")
        with one as good, two as bad:
            joined(address, 2)
            with Cluster(address) as cluster:
                cluster.installation(NAMES, ["cpu"], None)
                places = {name: {cluster(Target(name)).submit(os.getpid).result() for _ in range(4)} for name in NAMES}
                gpu = cluster(Target(SEGFAULTS, device="cuda")).submit(os.getpid).result()
                report = convspec.check(CASES, NAMES, layouts=["NCHW"], executor=cluster)
    assert places == {GOOD: {good.pid}, SEGFAULTS: {bad.pid}}
    assert gpu == bad.pid
    assert len(report.results) == 48


def test_an_unmet_resource_is_refused_before_anything_waits_for_it(there, tmp_path):
    address, _ = there
    done = command(address, "--adapters", GOOD, "--devices", "cuda", "--journal", tmp_path / "run.jsonl")
    out, err = done.communicate(timeout=100)
    assert (done.returncode, out) == (2, "")
    assert err.startswith("convspec: device='cuda' with adapter 'good' must have a worker that declares the resources")
    assert not (tmp_path / "run.jsonl").exists()


@needs_linux
def test_ctrl_c_ends_what_is_under_way_and_says_how_to_go_on(there, tmp_path):
    address, processes = there
    file, corpus = tmp_path / "my run.jsonl", tmp_path / "cases.jsonl"
    corpus.write_text(Case(ConvSpec(1, 3, 3), (1, 1, 4, 5)).to_json() + "\n")
    before = {child for process in processes for child in tree(process)}
    main = command(address, "--adapters", "convspec_fakes:HANGS", "--corpus", corpus, "--journal", file)
    hung = until(lambda: {child for process in processes for child in tree(process)} - before)
    main.send_signal(signal.SIGINT)
    out, err = main.communicate(timeout=100)
    assert (main.returncode, out) == (130, "")
    assert err.splitlines()[-1] == (
        f"convspec: interrupted; resume with: convspec check --resume '{file}' --dask {address}"
    )
    until(lambda: not any(alive(process) for process in hung), 10)
    assert len(journal.read(file).results) == 0


def test_a_scheduler_that_goes_away_is_said_and_the_journal_stays(tmp_path):
    file, corpus = tmp_path / "run.jsonl", tmp_path / "cases.jsonl"
    corpus.write_text(Case(ConvSpec(1, 3, 3), (1, 1, 4, 5)).to_json() + "\n")
    with a_scheduler() as (scheduler, address), a_worker(address, tmp_path) as worker:
        joined(address, 1)
        main = command(address, "--adapters", "convspec_fakes:HANGS", "--corpus", corpus, "--journal", file)
        until(lambda: tree(worker.pid))
        scheduler.kill()
        out, err = main.communicate(timeout=100)
    assert (main.returncode, out) == (2, ""), err
    assert err.splitlines()[-1] == (
        f"convspec: the scheduler at {address} is gone; resume with: convspec check --resume {file} --dask {address}"
    )
    assert journal.read(file).report().missing
