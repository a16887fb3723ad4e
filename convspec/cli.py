"""The ``convspec`` command.

Exit status 0: nothing unexpected; 1: something unexpected; 2: the request itself is wrong.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from convspec.errors import ConvspecError, RequestError

if TYPE_CHECKING:
    from rich.console import Console

    from convspec.cases import Case
    from convspec.contract import Adapter
    from convspec.spec import ConvSpec

P = ParamSpec("P")

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


def _reported(command: Callable[P, None]) -> Callable[P, None]:
    """Turn the project's errors into one sentence on standard error and exit status 2."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ConvspecError as error:
            sys.stderr.write(f"convspec: {error}\n")
            raise typer.Exit(2) from None
        except BrokenPipeError:  # whoever read our output has seen enough
            sys.stdout = None
            raise typer.Exit(1) from None

    return run


JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON; `-` is standard output.")
]
SpecArgument = Annotated[
    str, typer.Argument(metavar="SPEC", help="A layer as JSON, as `ConvSpec.to_json` gives it; `-` reads it.")
]

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
@_reported
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
    with progress.shown(_console(stderr=True)) as shown:
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
    terminal.show(report, _console(stderr=json == "-"))
    raise typer.Exit(1 if report.unexpected else 0)


def _cases(corpora: list[str], sample: int | None, seed: int) -> list[Case]:
    """The cases of all corpora, each once, a sample of them where one is asked for."""
    from convspec import corpora as library

    cases = list(dict.fromkeys(case for name in corpora for case in library.load(name)))
    return cases if sample is None else library.sample(cases, sample, seed)


@app.command()
@_reported
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
        listing.show(found, _console(), gaps=gaps)


@app.command(
    epilog="""Example: `convspec source '{"in_channels": 3, "out_channels": 8, "kernel_size": 3}' --to torch`"""
)
@_reported
def source(
    spec: SpecArgument,
    to: Annotated[str, typer.Option("--to", metavar="ADAPTER", help="The framework to write for.")],
    layout: Annotated[str | None, typer.Option(help="`NCHW` or `NHWC`; default: the framework's own.")] = None,
    dtype: Annotated[str, typer.Option(help="Format of the weights.")] = "float32",
    json: JsonOption = None,
) -> None:
    """Print the code that an expert of that framework would write for a layer."""
    from convspec import registry
    from convspec.reports import document

    adapter = registry.adapter(to)
    layer = _spec(spec)
    text = adapter.source(layer, layout or _own_layout(adapter), dtype)
    if json is not None:
        document.write(document.dumps({"spec": layer.to_dict(), "adapter": to, "source": text}), json)
    if json != "-":
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


@app.command(
    epilog="""Example: `convspec show '{"in_channels": 3, "out_channels": 8, "kernel_size": 3}' --input 1,3,32,32`"""
)
@_reported
def show(
    spec: SpecArgument,
    input_shape: Annotated[
        str | None, typer.Option("--input", metavar="SHAPE", help="The input's shape, `1,3,32,32`.")
    ] = None,
    layout: Annotated[str, typer.Option(help="The layout that the shape is written in.")] = "NCHW",
    json: JsonOption = None,
) -> None:
    """Print a layer's facts: output shape, parameters, cost, receptive field, and who supports it."""
    from convspec.reports import document, facts

    layer = _spec(spec)
    found = facts.of(layer, None if input_shape is None else _shape(input_shape), layout)
    if json is not None:
        document.write(document.dumps(found), json)
    if json != "-":
        facts.show(found, _console())


@app.command(epilog="""Example: `convspec diagnose '{"in_channels": 3, "out_channels": 8, "kernel_size": 3}' run.npz`""")
@_reported
def diagnose(
    spec: SpecArgument,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help=".npz or .safetensors with `input`, `kernel`, `bias` and `actual`.")
    ],
    layout: Annotated[str, typer.Option(help="Of `input` and `actual`; the kernel is (O, I/g, …) always.")] = "NCHW",
    dtype: Annotated[str | None, typer.Option(help="What `actual` was computed in; default: its own.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="For the search among pairs of mistakes.")] = 20.0,
    json: JsonOption = None,
) -> None:
    """Name the known mistake that turns a layer and its input into exactly these wrong numbers."""
    from convspec import commands_diagnose

    raise typer.Exit(commands_diagnose.run(_spec(spec), file, layout, dtype, seconds, json, _console()))


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        import convspec

        sys.stdout.write(f"convspec {convspec.__version__}\n")
        raise typer.Exit


def _console(*, stderr: bool = False) -> Console:
    """A console; where its width is unknown, lines are as long as they are."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 200, highlight=False)


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


def _spec(text: str) -> ConvSpec:
    from convspec.spec import ConvSpec

    return ConvSpec.from_json(sys.stdin.read() if text == "-" else text)


def _shape(text: str) -> tuple[int, ...]:
    parts: list[Any] = text.strip("()[] ").replace("x", ",").split(",")
    try:
        return tuple(int(part) for part in parts)
    except ValueError:
        raise RequestError(f"--input {text!r} must be sizes like 1,3,32,32") from None


def _own_layout(adapter: Adapter) -> str:
    return getattr(adapter, "native_layout", adapter.layouts[0])
