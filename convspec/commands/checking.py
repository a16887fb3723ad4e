"""The command ``check``: the corpora, the adapters, and the run."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated

import typer

from convspec.commands.console import JsonOption, console
from convspec.errors import RequestError

if TYPE_CHECKING:
    from convspec.cases import Case

EXAMPLES = """
Examples:

    convspec check

    convspec check --adapters torch,onnx --corpus features --json report.json

    convspec check --corpus timm --sample 500 --seed 1

    echo '{"spec": {"in_channels": 3, "out_channels": 8, "kernel_size": [3, 5]}, "input_shape": [2, 3, 9, 11]}' |
    convspec check --corpus - --adapters keras --layouts NCHW
"""


_what = functools.partial(typer.Option, rich_help_panel="What")
_how = functools.partial(typer.Option, rich_help_panel="How")
Adapters = Annotated[
    str | None,
    _what(
        metavar="A,B",
        help="Adapters, `name:variant`, `name:*`, `all` with every variant; default: all that are installed.",
    ),
]
Corpora = Annotated[
    list[str] | None, _what(metavar="NAME|FILE|-", help="Cases; may be given several times. Default: tutorial.")
]
Sample = Annotated[int | None, _what(metavar="N", min=1, help="Only N of the cases.")]
Seed = Annotated[int, _what(metavar="S", help="Of the sample.")]
Layouts = Annotated[str | None, _how(metavar="NCHW,NHWC", help="Default: both.")]
Dtypes = Annotated[str | None, _how(metavar="D,…", help="Names, or `all`; default: each case's own.")]
Devices = Annotated[str | None, _how(metavar="cpu,cuda", help="Default: each case's own.")]
Data = Annotated[str, _how(metavar="KIND,…", help="Kinds of data, or `all`; `probe` measures the accuracy class.")]
Precision = Annotated[str, _how(metavar="P,…", help="`shipped` or `strict` (no TF32 and the like).")]
Gradients = Annotated[bool, _how("--gradients", help="Check the gradients of input, kernel and bias too.")]
Jobs = Annotated[int | None, typer.Option("--jobs", "-j", metavar="N", min=1, help="Busy workers; default: cores.")]
Timeout = Annotated[float, typer.Option(metavar="SECONDS", help="For one build and run.")]


def check(
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
    jobs: Jobs = None,
    timeout: Timeout = 120.0,
    json: JsonOption = None,
) -> None:
    """Build layers in every framework, run them, and judge each output against the mathematics."""
    from convspec.conformance.runner import KINDS, PRECISIONS
    from convspec.conformance.runner import check as run
    from convspec.dtypes import DTYPES
    from convspec.reports import document, progress, terminal

    document.writable(json)
    cases = _cases(corpus or ["tutorial"], sample, seed)
    with progress.shown(console(stderr=True)) as shown:
        report = run(
            cases,
            _names(adapters),
            _names(layouts),
            _names(dtypes, DTYPES),
            _names(devices),
            data=_names(data, KINDS) or (),
            precisions=_names(precision, PRECISIONS) or (),
            gradients=gradients,
            jobs=jobs,
            timeout=timeout,
            progress=shown,
        )
    report.environment.update(corpus=corpus or ["tutorial"], sample=sample, sample_seed=seed)
    if json is not None:
        document.write(document.text(report), json)
    terminal.show(report, console(stderr=json == "-"))
    raise typer.Exit(1 if report.unexpected else 0)


def _cases(corpora: list[str], sample: int | None, seed: int) -> list[Case]:
    """The cases of all corpora, each once, a sample of them where one is asked for."""
    from convspec import corpora as library

    cases = list(dict.fromkeys(case for name in corpora for case in library.load(name)))
    return cases if sample is None else library.sample(cases, sample, seed)


def _names(text: str | None, everything: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """The names in a comma-separated list; ``all`` stands for everything where there is such a thing."""
    if text is None:
        return None
    if text == "all" and everything:
        return everything
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise RequestError(f"{text!r} names nothing")
    return names
