"""The ``convspec`` command.

Exit status 0: nothing unexpected; 1: something unexpected; 2: the request itself is wrong.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from convspec import diagnosis_command, layer_commands, model_commands, vectors_command, verify_command
from convspec.console import JsonOption, console, reported
from convspec.errors import RequestError

if TYPE_CHECKING:
    from convspec.cases import Case

app = typer.Typer(
    name="convspec",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="One convolution layer in PyTorch, Flax, Keras and ONNX, and the proof that they agree.",
)


def main() -> None:
    """Run the command; the oracle's linear algebra gets one thread for each of its own."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported; workers are told their own
    app()


_CHECK_EXAMPLES = """
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


@app.command(epilog=_CHECK_EXAMPLES)
@reported
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


@app.command()
@reported
def adapters(
    gaps: Annotated[bool, typer.Option("--gaps", help="List each adapter's declared gaps.")] = False,
    json: JsonOption = None,
) -> None:
    """List the adapters, the versions of their frameworks, and what they declare."""
    from convspec import registry
    from convspec.reports import document, listing

    found = [listing.Entry.of(registry.adapter(name)) for name in registry.adapters()]
    if json is not None:
        document.write(document.dumps({"adapters": [entry.to_dict() for entry in found]}), json)
    if json != "-":
        listing.show(found, console(), gaps=gaps)


app.command(epilog=layer_commands.SOURCE_EXAMPLES)(reported(layer_commands.source))
app.command(epilog=layer_commands.SHOW_EXAMPLES)(reported(layer_commands.show))
app.command(epilog=diagnosis_command.EXAMPLES)(reported(diagnosis_command.diagnose))
app.command(epilog=model_commands.COMPARE_EXAMPLES)(reported(model_commands.compare))
app.command(epilog=model_commands.PORT_EXAMPLES)(reported(model_commands.port))
app.command(epilog=verify_command.EXAMPLES)(reported(verify_command.verify))
app.add_typer(vectors_command.app)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        import convspec

        sys.stdout.write(f"convspec {convspec.__version__}\n")
        raise typer.Exit


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
