"""The command ``check``: corpora, adapters, and the run."""

from __future__ import annotations

import contextlib
import functools
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convspec.cli import options
from convspec.cli.console import console, finish, print_message, require_writable
from convspec.cli.options import how, long, parse_names, what
from convspec.errors import ExecutorError, RequestError, printable

if TYPE_CHECKING:
    from convspec.conformance import Cluster, Report
    from convspec.corpora import Case

EXAMPLES = """
Examples:

    convspec check

    convspec check --adapters torch,onnx --corpus features --json report.json

    convspec check --corpus timm --sample 500 --seed 1

    convspec check --corpus timm --journal run.jsonl --dask tls://scheduler:8786

    convspec check --adapters torch --devices cuda --record gpu

    echo '{"spec": {"in_channels": 3, "out_channels": 8, "kernel_size": [3, 5]}, "input_shape": [2, 3, 9, 11]}' |
    convspec check --corpus - --adapters keras --layouts NCHW
"""


def check(
    context: typer.Context,
    adapters: options.Adapters = None,
    corpus: Annotated[list[str] | None, what(
        "Corpus or file of cases; may be repeated. Default: tutorial.", "NAME|FILE|-", one="corpus")] = None,
    sample: Annotated[int | None, what("Check a random sample of N cases.", "N", min=1)] = None,
    seed: Annotated[int, what("Random seed for --sample.", "S")] = 0,
    layouts: options.Layouts = None,
    dtypes: options.Dtypes = None,
    devices: Annotated[str | None, how("Devices. Default: the device of each case.", "cpu,cuda")] = None,
    data: Annotated[str, how(
        "Kinds of data, or `all` of floats; `probe`: accuracy class; `metamorphic`: no oracle; `int8`, …: integers.",
        "KIND,…", several="data")] = "exact,random",
    precision: Annotated[str, how("`shipped`: the framework's defaults; `strict`: full precision, no TF32.", "P,…",
        several="precision")] = "shipped",
    gradients: options.Gradients = False,
    jobs: Annotated[int | None, how(
        "Number of workers. Default: number of cores. With --dask: pending chunks; default: two per thread.", "N",
        "--jobs", "-j", min=1)] = None,
    timeout: options.Timeout = 120.0,
    start_timeout: options.StartTimeout = None,
    memory: options.Memory = None,
    shard: Annotated[str | None, long("Check every N-th case, from the I-th on; the first is 1.", "I/N")] = None,
    journal: options.Journal = None,
    resume: Annotated[str | None, long("Resume the run recorded in FILE.", "FILE")] = None,
    record: Annotated[str | None, long(
        "Save inputs, weights and outputs for `convspec replay DIR` on another machine.", "DIR")] = None,
    record_limit: Annotated[str, long(
        "Size limit of the arrays in DIR, e.g. 4GiB; the report counts those left out.", "SIZE")] = "1GiB",
    dask: Annotated[str | None, long(
        "Run on the Dask cluster with this scheduler, e.g. tls://host:8786.", "ADDRESS")] = None,
    json: options.JsonOption = None,
    html: options.HtmlOption = None,
    markdown: options.MarkdownOption = None,
    junit: options.JunitOption = None,
) -> None:  # fmt: skip
    """Build and run layers in every framework; compare each output with the mathematical reference."""
    from convspec.conformance import KINDS, PRECISIONS, journal_path
    from convspec.conformance import check as run_check
    from convspec.conformance import resume as resume_run
    from convspec.contract.isolation import parse_size
    from convspec.spec import DTYPES

    require_writable(json, html, markdown, junit)
    run: Callable[..., Report]
    if resume is not None:
        _refuse_run_options(context)
        run = functools.partial(resume_run, resume, start_timeout=start_timeout)
    else:
        run = functools.partial(
            run_check, load_cases(corpus or ["tutorial"], sample, seed), parse_names(adapters), parse_names(layouts),
            parse_names(dtypes, DTYPES), parse_names(devices), data=parse_names(data, KINDS) or (),
            precisions=parse_names(precision, PRECISIONS) or (), gradients=gradients, timeout=timeout,
            start_timeout=start_timeout, memory=None if memory is None else parse_size(memory), shard=_shard(shard),
            journal=journal, record=record, record_limit=parse_size(record_limit, "record-limit"),
            origin={"corpus": corpus or ["tutorial"], "sample": sample, "sample_seed": seed},
        )  # fmt: skip
    path = journal or resume or (None if record is None else str(journal_path(Path(record), _shard(shard))))
    finish(run_shown(run, jobs, path, dask), json, html, markdown, junit)


def run_shown(run: Callable[..., Report], jobs: int | None, journal: str | None, dask: str | None = None) -> Report:
    """Run with a progress display; an interruption ends the command with the way to resume."""
    from convspec.cli.reports import progress

    with _interruptible(journal, dask), _cluster(dask) as cluster, progress.display(console(stderr=True)) as display:
        executor = {} if cluster is None else {"executor": cluster}
        return run(jobs=jobs, progress=display, **executor)


_DIGITS = 40  # of a shard, both numbers together
_SESSION = ("resume", "jobs", "start_timeout", "dask", "json", "html", "markdown", "junit")


def _refuse_run_options(context: typer.Context) -> None:
    """Refuse options that would change the run to be resumed."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in _SESSION and source is not None and source.name == "COMMANDLINE":
            raise RequestError(f"--{name} cannot be used with --resume: the journal fixes the options of its run")


def _cluster(dask: str | None) -> contextlib.AbstractContextManager[Cluster | None]:
    """The Dask cluster at this address, None without one."""
    if dask is None:
        return contextlib.nullcontext()
    from convspec.conformance import Cluster

    return Cluster(dask, lambda sentence: print_message(f"warning: {sentence}"))


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, so that workers and temporary files are removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    ends = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]  # as under nohup
    before = {number: signal.signal(number, interrupt) for number in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _interruptible(journal: str | None, dask: str | None) -> Iterator[None]:
    """End cleanly and say how to resume, where the run is interrupted or terminated, or its cluster is lost."""
    try:
        with signals_interrupt():
            yield
    except (KeyboardInterrupt, ExecutorError) as error:
        from convspec.conformance import resume_command

        way = "nothing was checked yet" if journal else "with --journal FILE it could be resumed"
        if journal and Path(journal).exists():
            way = f"resume with: {resume_command(Path(journal))}" + (f" --dask {shlex.quote(dask)}" if dask else "")
        print_message(f"{str(error) or 'interrupted'}; {way}")
        raise typer.Exit(2 if isinstance(error, ExecutorError) else 130) from None


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and len(text) < _DIGITS):
        raise RequestError(f"--shard {printable(text, 80)!r} must be I/N, e.g. 1/4")
    return int(part), int(parts)


def load_cases(corpora: list[str], sample: int | None, seed: int = 0) -> list[Case]:
    """The distinct cases of all corpora, or a sample of them."""
    from convspec import corpora as library

    cases = list(dict.fromkeys(case for name in corpora for case in library.load(name)))
    return cases if sample is None else library.sample(cases, sample, seed)
