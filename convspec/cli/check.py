"""The command ``check``: corpora, adapters, and the run."""

from __future__ import annotations

import contextlib
import functools
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convspec.cli import completion
from convspec.cli.console import HtmlOption, JsonOption, JunitOption, MarkdownOption, console, finish
from convspec.errors import ExecutorError, RequestError

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


_what = functools.partial(typer.Option, rich_help_panel="What")
_how = functools.partial(typer.Option, rich_help_panel="How")
_long = functools.partial(typer.Option, rich_help_panel="Long runs")
Adapters = Annotated[
    str | None,
    _what(
        metavar="A,B",
        autocompletion=completion.several(completion.adapters),
        help="Adapters: `name`, `name:variant`, `name:*`, or `all` for every variant. Default: all installed.",
    ),
]
Corpora = Annotated[
    list[str] | None,
    _what(
        metavar="NAME|FILE|-",
        autocompletion=completion.one(completion.corpora),
        help="Corpus or file of cases; may be repeated. Default: tutorial.",
    ),
]
Sample = Annotated[int | None, _what(metavar="N", min=1, help="Check a random sample of N cases.")]
Seed = Annotated[int, _what(metavar="S", help="Random seed for --sample.")]
Layouts = Annotated[
    str | None,
    _how(metavar="NCHW,NHWC", autocompletion=completion.several(completion.layouts), help="Layouts. Default: both."),
]
Dtypes = Annotated[
    str | None,
    _how(
        metavar="D,…",
        autocompletion=completion.several(completion.dtypes),
        help="Dtypes, or `all`. Default: the dtype of each case.",
    ),
]
Devices = Annotated[str | None, _how(metavar="cpu,cuda", help="Devices. Default: the device of each case.")]
Data = Annotated[
    str,
    _how(
        metavar="KIND,…",
        autocompletion=completion.several(completion.data),
        help="Kinds of data, or `all`; `probe` measures the accuracy class, `metamorphic` needs no oracle.",
    ),
]
Precision = Annotated[
    str,
    _how(
        metavar="P,…",
        autocompletion=completion.several(completion.precisions),
        help="`shipped`: default precision switches; `strict`: TF32 and the like are off.",
    ),
]
Gradients = Annotated[bool, _how("--gradients", help="Also check the gradients of input, kernel and bias.")]
_jobs = functools.partial(_how, "--jobs", "-j", metavar="N", min=1)
Jobs = Annotated[int | None, _jobs(help="Number of workers. Default: number of cores.")]
JobsOrChunks = Annotated[
    int | None,
    _jobs(help="Number of workers. Default: number of cores. With --dask: pending chunks; default: two per thread."),
]
Journal = Annotated[str | None, _long(metavar="FILE", help="Write each verdict to this new file as the run goes on.")]
Resume = Annotated[str | None, _long(metavar="FILE", help="Resume the run recorded in FILE.")]
Shard = Annotated[str | None, _long(metavar="I/N", help="Check every N-th case, from the I-th on; the first is 1.")]
Record = Annotated[
    str | None,
    _long(metavar="DIR", help="Save inputs, weights and outputs for `convspec replay DIR` on another machine."),
]
RecordLimit = Annotated[
    str, _long(metavar="SIZE", help="Size limit of the arrays in DIR, e.g. 4GiB; the report counts those left out.")
]
Dask = Annotated[
    str | None,
    _long(metavar="ADDRESS", help="Run on the Dask cluster with this scheduler, e.g. tls://host:8786."),
]
Timeout = Annotated[float, _how(metavar="SECONDS", help="Time limit of one build and run, in seconds.")]
Memory = Annotated[
    str | None, _how(metavar="SIZE", help="Memory limit per worker, e.g. 4GiB; exceeding it counts as a crash.")
]


def check(
    context: typer.Context,
    adapters: Adapters = None,
    corpus: Corpora = None,
    sample: Sample = None,
    seed: Seed = 0,
    layouts: Layouts = None,
    dtypes: Dtypes = None,
    devices: Devices = None,
    data: Data = "exact,random",
    precision: Precision = "shipped",
    gradients: Gradients = False,
    jobs: JobsOrChunks = None,
    timeout: Timeout = 120.0,
    memory: Memory = None,
    shard: Shard = None,
    journal: Journal = None,
    resume: Resume = None,
    record: Record = None,
    record_limit: RecordLimit = "1GiB",
    dask: Dask = None,
    json: JsonOption = None,
    html: HtmlOption = None,
    markdown: MarkdownOption = None,
    junit: JunitOption = None,
) -> None:
    """Build and run layers in every framework; compare each output with the mathematical reference."""
    from convspec.cli.reports import json_document
    from convspec.conformance import KINDS, PRECISIONS
    from convspec.conformance import check as run_check
    from convspec.conformance import resume as resume_run
    from convspec.contract.isolation import parse_size
    from convspec.spec import DTYPES

    for path in (json, html, markdown, junit):
        json_document.writable(path)
    run: Callable[..., Report]
    if resume is not None:
        _refuse_run_options(context)
        run = functools.partial(resume_run, resume)
    else:
        run = functools.partial(
            run_check,
            _cases(corpus or ["tutorial"], sample, seed),
            names(adapters),
            names(layouts),
            names(dtypes, DTYPES),
            names(devices),
            data=names(data, KINDS) or (),
            precisions=names(precision, PRECISIONS) or (),
            gradients=gradients,
            timeout=timeout,
            memory=None if memory is None else parse_size(memory),
            shard=_shard(shard),
            journal=journal,
            record=record,
            record_limit=parse_size(record_limit, "record-limit"),
            origin={"corpus": corpus or ["tutorial"], "sample": sample, "sample_seed": seed},
        )
    path = journal or resume or _record_journal(record, shard)
    finish(run_shown(run, jobs, path, dask), json, html, markdown, junit)


def run_shown(run: Callable[..., Report], jobs: int | None, journal: str | None, dask: str | None = None) -> Report:
    """Run with a progress display; an interruption ends the command with the way to resume."""
    from convspec.cli.reports import progress

    with _interruptible(journal, dask), _cluster(dask) as cluster, progress.display(console(stderr=True)) as display:
        executor = {} if cluster is None else {"executor": cluster}
        return run(jobs=jobs, progress=display, **executor)


def _record_journal(folder: str | None, shard: str | None) -> str | None:
    """The path of the journal of a run with --record."""
    from convspec.conformance import journal_path

    return None if folder is None else str(journal_path(Path(folder), _shard(shard)))


_SESSION = ("resume", "jobs", "dask", "json", "html", "markdown", "junit")


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

    return Cluster(dask, lambda sentence: print(f"convspec: warning: {sentence}", file=sys.stderr))  # noqa: T201


@contextlib.contextmanager
def _interruptible(journal: str | None, dask: str | None) -> Iterator[None]:
    """End cleanly and say how to resume, where the run is interrupted or terminated, or its cluster is lost."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except (KeyboardInterrupt, ExecutorError) as error:
        from convspec.conformance import resume_command

        way = "with --journal FILE it could be resumed"
        if journal:
            way = f"resume with: {resume_command(Path(journal))}" + (f" --dask {shlex.quote(dask)}" if dask else "")
        sys.stderr.write(f"convspec: {str(error) or 'interrupted'}; {way}\n")
        raise typer.Exit(2 if isinstance(error, ExecutorError) else 130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal()):
        raise RequestError(f"--shard {text!r} must be I/N, e.g. 1/4")
    return int(part), int(parts)


def _cases(corpora: list[str], sample: int | None, seed: int) -> list[Case]:
    """The distinct cases of all corpora, or a sample of them."""
    from convspec import corpora as library

    cases = list(dict.fromkeys(case for name in corpora for case in library.load(name)))
    return cases if sample is None else library.sample(cases, sample, seed)


def names(text: str | None, everything: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """The names in a comma-separated list; ``all`` means ``everything``, if given."""
    if text is None:
        return None
    if text == "all" and everything:
        return everything
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise RequestError(f"{text!r} has no name in it")
    return names
