"""The commands about layers, for which no framework is needed: ``source`` and ``show``."""

from __future__ import annotations

import re
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convspec.cli import completion
from convspec.cli.console import JsonOption, SvgOption, console
from convspec.errors import RequestError, UnsupportedError

if TYPE_CHECKING:
    from convspec.layers import Translation
    from convspec.spec import Chain

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
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="ADAPTER",
            autocompletion=completion.one(completion.adapters),
            help="The framework to write for.",
        ),
    ],
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
    from convspec.cli.reports import json_document
    from convspec.layers import translate

    shape = None if input_shape is None else _shape(input_shape)
    found = translate(_read(spec), to, in_channels, layout=layout, dtype=dtype, input_shape=shape)
    if json is not None:
        json_document.write(json_document.dumps({"adapter": to, **found.to_dict()}), json)
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
    layout: Annotated[
        str | None, typer.Option(help="The layout that the shape is written in; default: that of the first layer.")
    ] = None,
    flatten: Annotated[bool, typer.Option("--flatten", help="What a flatten behind it gives a dense layer.")] = False,
    adapters: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            autocompletion=completion.several(completion.adapters),
            help="Whose code is shown; default: that of one for each framework.",
        ),
    ] = None,
    svg: SvgOption = None,
    json: JsonOption = None,
) -> None:
    """Explain a layer, or a chain of them: what the numbers mean, sizes, cost, every framework's code, a drawing."""
    from convspec.cli.reports import json_document
    from convspec.cli.reports import layers as report
    from convspec.layers import facts, layers_of, layout_of
    from convspec.spec import Chain

    shape = None if input_shape is None else _shape(input_shape)
    if flatten and shape is None:
        raise RequestError("--flatten needs --input SHAPE: the number of features follows from it")
    read = layers_of(map(_read, specs), in_channels)
    chain, layout = Chain(spec for spec, _ in read), layout or layout_of(read[0][1] if read else "{}")
    names = None if adapters is None else [name.strip() for name in adapters.split(",")]
    found = facts.of(chain, shape, layout, flatten=flatten, adapters=names)
    if svg is not None:
        json_document.write(_picture(chain, shape, layout), svg)
    if json is not None:
        json_document.write(json_document.dumps(found), json)
    if "-" not in (json, svg):
        report.show(found, console())


def _picture(chain: Chain, shape: tuple[int, ...] | None, layout: str) -> str:
    from convspec.layers import pictures
    from convspec.spec import layouts

    first = chain.specs[0]
    spatial = None if shape is None else layouts.canonical_shape(shape, layout, first.ndim)[2:]
    return pictures.layer(first, spatial) if len(chain.specs) == 1 else pictures.sequence(chain, spatial)


def _read(text: str) -> str:
    return sys.stdin.read() if text == "-" else text


def _shape(text: str) -> tuple[int, ...]:
    parts: list[Any] = text.strip("()[] ").replace("x", ",").split(",")
    try:
        return tuple(int(part) for part in parts)
    except ValueError:
        raise RequestError(f"--input {text!r} must be sizes like 1,3,32,32") from None
