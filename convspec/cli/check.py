"""The command ``check``: the corpora, the adapters, and the run."""

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
from convspec.cli.console import HtmlOption, JsonOption, JunitOption, MarkdownOption, console, write_report
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
_kept = functools.partial(typer.Option, rich_help_panel="Long runs")
Adapters = Annotated[
    str | None,
    _what(
        metavar="A,B",
        autocompletion=completion.several(completion.adapters),
        help="Adapters, `name:variant`, `name:*`, `all` with every variant; default: all that are installed.",
    ),
]
Corpora = Annotated[
    list[str] | None,
    _what(
        metavar="NAME|FILE|-",
        autocompletion=completion.one(completion.corpora),
        help="Cases; may be given several times. Default: tutorial.",
    ),
]
Sample = Annotated[int | None, _what(metavar="N", min=1, help="Only N of the cases.")]
Seed = Annotated[int, _what(metavar="S", help="Of the sample.")]
Layouts = Annotated[
    str | None,
    _how(metavar="NCHW,NHWC", autocompletion=completion.several(completion.layouts), help="Default: both."),
]
Dtypes = Annotated[
    str | None,
    _how(
        metavar="D,…",
        autocompletion=completion.several(completion.dtypes),
        help="Names, or `all`; default: each case's own.",
    ),
]
Devices = Annotated[str | None, _how(metavar="cpu,cuda", help="Default: each case's own.")]
Data = Annotated[
    str,
    _how(
        metavar="KIND,…",
        autocompletion=completion.several(completion.data),
        help="Kinds of data, or `all`; `probe`: the accuracy class; `metamorphic`: without the oracle.",
    ),
]
Precision = Annotated[
    str,
    _how(
        metavar="P,…",
        autocompletion=completion.several(completion.precisions),
        help="`shipped` or `strict` (no TF32 and the like).",
    ),
]
Gradients = Annotated[bool, _how("--gradients", help="Check the gradients of input, kernel and bias too.")]
_jobs = functools.partial(_how, "--jobs", "-j", metavar="N", min=1)
Jobs = Annotated[int | None, _jobs(help="Busy workers; default: cores.")]
JobsOrChunks = Annotated[
    int | None, _jobs(help="Busy workers; default: cores. With --dask: chunks under way; default: two a thread.")
]
Journal = Annotated[str | None, _kept(metavar="FILE", help="Write every verdict into this new file as it is reached.")]
Resume = Annotated[str | None, _kept(metavar="FILE", help="Go on with the run of this journal, as it was asked for.")]
Shard = Annotated[str | None, _kept(metavar="I/N", help="Only every N-th case, from the I-th on; the first is 1.")]
Record = Annotated[
    str | None,
    _kept(metavar="DIR", help="Keep inputs, weights and outputs, too, for `convspec replay DIR` on another machine."),
]
RecordLimit = Annotated[str, _kept(metavar="SIZE", help="Of the arrays in DIR; what does not fit is counted.")]
Dask = Annotated[
    str | None,
    _kept(metavar="ADDRESS", help="Do the work on the Dask cluster with this scheduler, as in tls://host:8786."),
]
Timeout = Annotated[float, _how(metavar="SECONDS", help="For one build and run.")]
Memory = Annotated[str | None, _how(metavar="SIZE", help="That a worker may hold, as in 4GiB; more is a crash.")]


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
    """Build layers in every framework, run them, and judge each output against the mathematics."""
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
        _only_of_this_session(context)
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
    place = journal or resume or _recorded(record, shard)
    finish(run, jobs, place, json, html, markdown, junit, dask)


def finish(
    run: Callable[..., Report],
    jobs: int | None,
    journal: str | None,
    json: str | None,
    html: str | None,
    markdown: str | None,
    junit: str | None,
    dask: str | None = None,
) -> None:
    """Do a run with its progress shown, write and print its report, and leave with its exit status."""
    from convspec.cli.reports import progress, run_terminal

    with _interruptible(journal, dask), _where(dask) as where, progress.shown(console(stderr=True)) as shown:
        elsewhere = {} if where is None else {"executor": where}
        report = run(jobs=jobs, progress=shown, **elsewhere)
    run_terminal.show(report, console(stderr=write_report(report, json, html, markdown, junit)))
    raise typer.Exit(1 if report.unexpected or report.missing else 0)


def _recorded(folder: str | None, shard: str | None) -> str | None:
    """The journal of a run that is recorded."""
    from convspec.conformance import journal_of

    return None if folder is None else str(journal_of(Path(folder), _shard(shard)))


_SESSION = ("resume", "jobs", "dask", "json", "html", "markdown", "junit")


def _only_of_this_session(context: typer.Context) -> None:
    """Refuse options that would make another run of the one that is resumed."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in _SESSION and source is not None and source.name == "COMMANDLINE":
            raise RequestError(f"--{name} cannot be given with --resume: the journal has the request of its run")


def _where(dask: str | None) -> contextlib.AbstractContextManager[Cluster | None]:
    """The cluster that is asked for, if any."""
    if dask is None:
        return contextlib.nullcontext()
    from convspec.conformance import Cluster

    return Cluster(dask, lambda sentence: print(f"convspec: warning: {sentence}", file=sys.stderr))  # noqa: T201


@contextlib.contextmanager
def _interruptible(journal: str | None, dask: str | None) -> Iterator[None]:
    """End cleanly, and say how to go on, where somebody interrupts or terminates the run, or its cluster is gone."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except (KeyboardInterrupt, ExecutorError) as error:
        from convspec.conformance import resuming

        way = "with --journal FILE it could be gone on with"
        if journal:
            way = f"go on with: {resuming(Path(journal))}" + (f" --dask {shlex.quote(dask)}" if dask else "")
        sys.stderr.write(f"convspec: {str(error) or 'interrupted'}; {way}\n")
        raise typer.Exit(2 if isinstance(error, ExecutorError) else 130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal()):
        raise RequestError(f"--shard {text!r} must be I/N, as in 1/4")
    return int(part), int(parts)


def _cases(corpora: list[str], sample: int | None, seed: int) -> list[Case]:
    """The cases of all corpora, each once, a sample of them where one is asked for."""
    from convspec import corpora as library

    cases = list(dict.fromkeys(case for name in corpora for case in library.load(name)))
    return cases if sample is None else library.sample(cases, sample, seed)


def names(text: str | None, everything: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """The names in a comma-separated list; ``all`` stands for everything where there is such a thing."""
    if text is None:
        return None
    if text == "all" and everything:
        return everything
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise RequestError(f"{text!r} names nothing")
    return names
