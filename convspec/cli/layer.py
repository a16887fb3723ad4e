"""The commands ``source`` and ``show``, which need no framework."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convspec.cli.console import console, print_lines, print_message, print_text, write, write_json
from convspec.cli.options import JsonOption, option
from convspec.cli.streams import read_input
from convspec.errors import CallError, RequestError, UnsupportedError, printable

if TYPE_CHECKING:
    from convspec.layers import Network
    from convspec.spec import Chain

SOURCE_EXAMPLES = """
Examples:

    convspec source "nn.Conv2d(3, 16, 3, stride=2, padding=1)" --to keras --input 1,3,32,32

    convspec source "keras.layers.Conv2D(16, 3, strides=2, padding='same')" --in-channels 3 --to torch

    convspec source my_model:build --to keras --input 1,3,224,224

    convspec source "torchvision.models:resnet18(num_classes=10)" --to keras --input 1,3,224,224
"""
SHOW_EXAMPLES = """
Examples:

    convspec show "nn.Conv2d(3, 16, 3, stride=2, padding=1)" --input 1,3,32,32

    convspec show "nn.Conv2d(1, 6, 5, padding=2)" "nn.Conv2d(6, 16, 5, stride=2)" --input 1,1,28,28 --flatten

    convspec show net.py:Net --input 1,3,224,224

    convspec show keras.applications:MobileNetV2 --input 1,224,224,3
"""

SpecArgument = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        help="A layer: a constructor of any framework, or JSON (`-`: standard input); a network: code, `FILE.py`, "
        "`module:factory`.",
    ),
]
SpecArguments = Annotated[
    list[str],
    typer.Argument(
        metavar="SPEC…",
        help="A layer, layers first to last, or a network: constructors, JSON, code, a printed model, `FILE.py`.",
    ),
]
InChannels = Annotated[
    int | None, option("Input channels, if not in the constructor (Keras, linen).", "N", "--in-channels", min=1)
]


def source(
    spec: SpecArgument,
    to: Annotated[str, option("Adapter of the target framework.", "ADAPTER", "--to", one="adapter")],
    in_channels: InChannels = None,
    layout: Annotated[
        str | None, option("Layout of the target's tensors, `NCHW` or `NHWC`; default: the framework's own.")
    ] = None,
    dtype: Annotated[str, option("Data type of the weights.")] = "float32",
    inputs: Annotated[
        list[str] | None,
        option("Input shape of the source, e.g. `1,3,32,32`; for a network once per input.", "SHAPE", "--input"),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Print a layer as another framework's code, with the differences to mind as comments.

    Or a whole network (with --input): its text, or a live model as `module:factory` or `module:factory(depth=18)`. Of a
    live model, the printed program is run with the same weights, and both models are compared.
    """
    from convspec.layers import translate

    shapes = [_shape(one) for one in inputs or ()]
    text = _read(spec)
    if _is_factory(text):
        _write_model(text, to, shapes, json)
        return
    try:
        translation = translate(
            text, to, in_channels, layout=layout, dtype=dtype, input_shape=shapes[0] if shapes else None
        )
    except CallError as error:
        _write_network(text, to, shapes, error, json)
        return
    taken = write_json(json, {"adapter": to, **translation.to_dict()})
    if translation.support == "unsupported":
        raise UnsupportedError(f"{to} cannot express this layer: {translation.support.reason}")
    if not taken:
        print_text(str(translation))


def _write_network(text: str, to: str, shapes: list[tuple[int, ...]], error: CallError, json: str | None) -> None:
    """Print the text of a network in another framework's words; where it is no network, say why it is no layer."""
    network = _network([text], error)
    if not shapes:
        raise RequestError("a network needs --input SHAPE: its code depends on it")
    code = network.source(to, *shapes)
    document = {"from": network.adapter, "to": to, "source": code.source, "remarks": list(code.remarks),
                "missing": [list(entry) for entry in code.missing], "verdict": None}  # fmt: skip
    if not write_json(json, document):
        print_text(str(code))
    if code.missing:
        raise typer.Exit(1)


def _write_model(name: str, to: str, shapes: list[tuple[int, ...]], json: str | None) -> None:
    """Print a live model in another framework's words, with the proof that both agree."""
    from convspec.models import arguments, translate_model

    if not shapes:
        raise RequestError("a model needs --input SHAPE: it is run")
    translation = translate_model(arguments.load_model(name, print_message), to, *shapes)
    if not write_json(json, translation.to_dict()):
        print_text(str(translation))
    if not translation.agrees:
        raise typer.Exit(1)


def show(
    specs: SpecArguments,
    inputs: Annotated[
        list[str] | None, option("Input shape, e.g. `1,3,32,32`; once for each input.", "SHAPE", "--input")
    ] = None,
    in_channels: InChannels = None,
    layout: Annotated[str | None, option("Layout of --input; default: that of the first layer.")] = None,
    flatten: Annotated[
        bool, option("Show in_features of a Linear/Dense layer after flattening.", None, "--flatten")
    ] = False,
    adapters: Annotated[
        str | None, option("Adapters whose code is shown; default: one per framework.", "A,B", several="adapter")
    ] = None,
    svg: Annotated[
        str | None, option("Write the drawing as SVG (`-`: standard output).", "FILE", "--svg", panel="Output")
    ] = None,
    markdown: Annotated[
        str | None, option("Write a network's table as Markdown.", "FILE", "--markdown", panel="Output")
    ] = None,
    json: JsonOption = None,
) -> None:
    """Explain a layer: meaning of the numbers, sizes, cost, code in each framework, a drawing.

    Or a whole network, its code or printed form in any framework: the shape, the parameters and the cost of every
    layer; if a layer does not fit, why, and how to fix it. The text is read, never run. Or a live model as
    `module:factory` or `module:factory(depth=18)`, which is created, without trained weights, and run once.
    """
    from convspec.cli.reports import layers as report
    from convspec.layers import facts, layers_of, layout_of
    from convspec.spec import Chain

    if flatten and not inputs:
        raise RequestError("--flatten needs --input SHAPE: the number of features depends on it")
    shapes = [_shape(one) for one in inputs or ()]
    shape = shapes[0] if shapes else None
    texts = [_read(text) for text in specs]
    try:
        read = layers_of(texts, in_channels)
    except CallError as error:
        _show_network(texts, shapes, error, json, markdown, svg)
        return
    chain, layout = Chain(spec for spec, _ in read), layout or layout_of(read[0][1] if read else "{}")
    names = None if adapters is None else [name.strip() for name in adapters.split(",")]
    document = facts.of(chain, shape, layout, flatten=flatten, adapters=names)
    if not write((svg, lambda: _picture(chain, shape, layout)), json=(json, lambda: document)):
        report.show(document, console())


def _picture(chain: Chain, shape: tuple[int, ...] | None, layout: str) -> str:
    from convspec.layers import pictures
    from convspec.spec import layouts

    first = chain.specs[0]
    spatial = None if shape is None else layouts.canonical_shape(shape, layout, first.ndim)[2:]
    return pictures.layer(first, spatial) if len(chain.specs) == 1 else pictures.sequence(chain, spatial)


def _show_network(
    texts: list[str], shapes: list[tuple[int, ...]], error: CallError, json: str | None, markdown: str | None,
    svg: str | None,
) -> None:  # fmt: skip
    """Show a network; where the text is none, say why it is no layer."""
    from convspec.layers import network_table as table
    from convspec.layers import pictures, summarize

    network = _live(texts, shapes) or _network(texts, error)
    document = summarize(network, *shapes)
    if svg is not None and not shapes:
        raise RequestError("--svg needs --input SHAPE: the picture is to scale")
    files = (markdown, lambda: table.markdown(document)), (svg, lambda: pictures.feature_maps(document))
    if not write(*files, json=(json, lambda: document)):
        screen = console()
        print_lines(table.lines(document, screen.width), screen)
    if "error" in document:
        raise typer.Exit(1)


def _live(texts: list[str], shapes: list[tuple[int, ...]]) -> Network | None:
    """Return a live model, which is run on inputs of these shapes; None where the text names none."""
    from convspec.layers import Network
    from convspec.models import arguments

    if len(texts) != 1 or not _is_factory(texts[0]):
        return None
    if not shapes:
        raise RequestError("a model needs --input SHAPE: it is run")
    return Network.read(arguments.load_model(texts[0], print_message), *shapes)


def _is_factory(text: str) -> bool:
    """Return whether a text is ``module:factory``, perhaps with arguments: of a model that is made and run."""
    name = re.fullmatch(r"([\w.]+:[\w.]+)(\(.*\))?", text, re.DOTALL)
    return name is not None and not name[1].endswith(".py")


def _network(texts: list[str], error: CallError) -> Network:
    """Read a network; where the text is none, it was one layer that cannot be read: ``error`` says why."""
    from convspec.layers import read_network

    text, name = _file_and_name("\n".join(texts))
    return read_network(text, error, name)


def _file_and_name(text: str) -> tuple[str, str | None]:
    """Return the text of ``net.py`` or ``net.py:Net``, with the name; a text that names no file as it is."""
    path, _, name = text.rpartition(":") if re.fullmatch(r".+\.py:\w+", text) else (text, "", "")
    if not re.fullmatch(r"[^\n()]+\.(py|txt)", path):
        return text, None
    try:
        return Path(path).read_text("utf-8"), name or None
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{printable(path)} cannot be read: {printable(error)}") from None


def _read(text: str) -> str:
    return read_input() if text == "-" else text


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.strip("()[] ").replace("x", ",").split(",")))
    except ValueError:
        raise RequestError(f"--input {printable(text, 80)!r} must be sizes like 1,3,32,32") from None
