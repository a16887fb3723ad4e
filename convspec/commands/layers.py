"""The commands about layers, for which no framework is needed: ``source`` and ``show``."""

from __future__ import annotations

import json as json_
import re
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convspec.commands.console import JsonOption, console
from convspec.errors import RequestError, SpecError, UnsupportedError

if TYPE_CHECKING:
    from convspec.spec import ConvSpec
    from convspec.translation import Translation

_WIDTH = 100

SOURCE_EXAMPLES = """
Examples:

    convspec source "nn.Conv2d(3, 16, 3, stride=2, padding=1)" --to keras --input 1,3,32,32

    convspec source "keras.layers.Conv2D(16, 3, strides=2, padding='same')" --in-channels 3 --to torch
"""
SHOW_EXAMPLES = """
Examples:

    convspec show "nn.Conv2d(3, 16, 3, stride=2, padding=1)" --input 1,3,32,32

    convspec show "nn.Conv2d(1, 6, 5, padding=2)" "nn.Conv2d(6, 16, 5, stride=2)" --input 1,1,28,28 --flatten
"""

SpecArgument = Annotated[
    str,
    typer.Argument(metavar="SPEC", help="A layer: a constructor of any framework, or JSON; `-` reads it."),
]
SpecArguments = Annotated[
    list[str],
    typer.Argument(metavar="SPEC…", help="Layers, first to last: constructors, JSON, or a JSON list of either."),
]
InChannels = Annotated[
    int | None,
    typer.Option("--in-channels", metavar="N", min=1, help="Where a constructor does not say it (Keras, linen)."),
]
InputShape = Annotated[str | None, typer.Option("--input", metavar="SHAPE", help="The input's shape, `1,3,32,32`.")]


def source(
    spec: SpecArgument,
    to: Annotated[str, typer.Option("--to", metavar="ADAPTER", help="The framework to write for.")],
    in_channels: InChannels = None,
    layout: Annotated[str | None, typer.Option(help="`NCHW` or `NHWC`; default: the framework's own.")] = None,
    dtype: Annotated[str, typer.Option(help="Format of the weights.")] = "float32",
    input_shape: Annotated[
        str | None,
        typer.Option("--input", metavar="SHAPE", help="The input's shape where the layer comes from: `1,3,32,32`."),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Print a layer as another framework's code, with a remark wherever the naive translation would be wrong."""
    from convspec.reports import document
    from convspec.translation import translate

    shape = None if input_shape is None else _shape(input_shape)
    found = translate(_read(spec), to, in_channels, layout=layout, dtype=dtype, input_shape=shape)
    if json is not None:
        document.write(document.dumps({"adapter": to, **found.to_dict()}), json)
    if found.support == "unsupported":
        raise UnsupportedError(f"{to} cannot express this layer: {found.support.reason}")
    if json != "-":
        sys.stdout.write(_program(found))


def _program(found: Translation) -> str:
    """The source, the remarks behind it as comments: it stays a program."""
    lines = [found.source.rstrip("\n")]
    if found.remarks:
        lines += ["", f"# Heed, coming from {found.origin or 'the spec'} ({found.support}):"]
    for remark in found.remarks:
        text = re.sub(r"\([^()]*\)", lambda m: m[0].replace(" ", "\xa0"), f"{remark.id}: {remark.text}")
        wrapped = textwrap.wrap(
            text, _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False, break_long_words=False
        )
        lines += ["#", *(line.replace("\xa0", " ") for line in wrapped)]
        lines += [f"#       {line}" for line in remark.code.splitlines()]
    return "\n".join(lines) + "\n"


def show(
    specs: SpecArguments,
    input_shape: InputShape = None,
    in_channels: InChannels = None,
    layout: Annotated[str, typer.Option(help="The layout that the shape is written in.")] = "NCHW",
    flatten: Annotated[bool, typer.Option("--flatten", help="What a flatten behind it gives a dense layer.")] = False,
    json: JsonOption = None,
) -> None:
    """Explain a layer, or a chain of them: what the numbers mean, sizes, cost, every framework's code, a drawing."""
    from convspec.chains import Chain
    from convspec.reports import document, facts

    shape = None if input_shape is None else _shape(input_shape)
    if flatten and shape is None:
        raise RequestError("--flatten needs --input SHAPE: the number of features follows from it")
    chain = Chain(_layers(specs, in_channels))
    found = facts.of(chain, shape, layout, flatten=flatten)
    if json is not None:
        document.write(document.dumps(found), json)
    if json != "-":
        facts.show(found, console())


def _layers(texts: list[str], in_channels: int | None) -> list[ConvSpec]:
    """The specs; a layer that does not say how many channels come in gets those of the one before."""
    from convspec.translation import layer_of

    found: list[ConvSpec] = []
    for item in [item for text in texts for item in _listed(_read(text))]:
        channels = found[-1].out_channels if found else in_channels
        needs = found and not item.lstrip().startswith("{")
        try:
            found.append(layer_of(item, None if found else in_channels)[0])
        except RequestError as error:
            if not needs or "in_channels" not in str(error):
                raise
            found.append(layer_of(item, channels)[0])
    return found


def _listed(text: str) -> list[str]:
    """The layers of a JSON list, else the text itself."""
    if not text.lstrip().startswith("["):
        return [text]
    try:
        items: Any = json_.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError([f"the list of layers must be JSON: {error}"]) from None
    return [item if isinstance(item, str) else json_.dumps(item) for item in items]


def _read(text: str) -> str:
    return sys.stdin.read() if text == "-" else text


def _shape(text: str) -> tuple[int, ...]:
    parts: list[Any] = text.strip("()[] ").replace("x", ",").split(",")
    try:
        return tuple(int(part) for part in parts)
    except ValueError:
        raise RequestError(f"--input {text!r} must be sizes like 1,3,32,32") from None
