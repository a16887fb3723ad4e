"""``convspec compare`` and ``convspec port``: what they take and what they print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from convspec.cli.console import JsonOption, console
from convspec.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

COMPARE_EXAMPLES = """
A model is `module:factory`, which is imported and called, or a file: ONNX, TorchScript, `torch.export`, `.keras`, or
the folder of a SavedModel. The last four are programs, loaded in a process of their own. Exit status 0: the models
agree; 1: they part somewhere; 2: a bad request, or a file that cannot be read.

Examples:

    convspec compare mynet.torch_model:build mynet.keras_model:build --shape 2,3,64,48

    convspec compare mynet.torch_model:build exported.onnx --input batch.npz --json report.json

    convspec compare model.pt2 saved_model/ --shape 1,3,64,48 --layouts NCHW,NHWC
"""
PORT_EXAMPLES = """
Models are named as for `compare`. Exit status 0: everything was moved (or, with --dry-run, would be); 1: something is
ambiguous or was left. Where the target is a file, it stays as it is: `--out` writes the new one.

Examples:

    convspec port mynet.torch_model:build mynet.keras_model:build --shape 1,3,64,48 --out ported.weights.h5

    convspec port mynet.torch_model:build mynet.flax_model:build --shape 1,3,64,48 --dry-run --json -

    convspec port model.pt mynet.keras --shape 1,3,64,48 --out ported.keras
"""

ModelA = Annotated[str, typer.Argument(metavar="A", help="The model that is right.")]
ModelB = Annotated[str, typer.Argument(metavar="B", help="The model that may be wrong.")]
Source = Annotated[str, typer.Argument(metavar="SOURCE", help="The model that has the weights.")]
Target = Annotated[str, typer.Argument(metavar="TARGET", help="The model that gets them.")]
Input = Annotated[str | None, typer.Option(metavar="FILE", help=".npz or .npy, in the first model's layout.")]
Shape = Annotated[str | None, typer.Option(metavar="N,C,H,W", help="Of random inputs; several with `;` between.")]
Seed = Annotated[int, typer.Option(metavar="S", help="Of the random inputs.")]
Layouts = Annotated[
    str | None, typer.Option(metavar="L,L", help="Of the inputs that both models take; default: their layers'.")
]


def compare(
    a: ModelA,
    b: ModelB,
    input: Input = None,  # noqa: A002 – the option's name
    shape: Shape = None,
    seed: Seed = 0,
    layouts: Layouts = None,
    seconds: Annotated[float, typer.Option(min=0, help="For the search among pairs of mistakes.")] = 20.0,
    fold_pads: Annotated[bool, typer.Option("--fold-pads", help="Count pads right before convs as theirs.")] = False,
    json: JsonOption = None,
) -> None:
    """Hold two models of any two frameworks together, conv by conv, and name the first that departs."""
    from convspec.cli.reports import json_document
    from convspec.models import arguments, text_table
    from convspec.models import compare as run_compare

    json_document.writable(json)
    inputs = arguments.inputs(input, shape, seed)
    found = run_compare(
        arguments.model(a), arguments.model(b), inputs, layouts=_both(layouts), seconds=seconds, fold_pads=fold_pads
    )
    if json is not None:
        json_document.write(json_document.dumps(found.to_dict()), json)
    if json != "-":
        _show(text_table.comparison(found))
    raise typer.Exit(0 if found.agrees else 1)


def _both(text: str | None) -> tuple[str | None, str | None]:
    """Two layouts, or none."""
    if text is None:
        return None, None
    names = text.split(",")
    if len(names) != 2 or not set(names) <= {"NCHW", "NHWC"}:
        raise RequestError(f"{text!r} must be two layouts, such as NCHW,NHWC")
    return names[0], names[1]


def _show(lines: Iterable[tuple[str, str]]) -> None:
    from rich.text import Text

    out = console()
    for line, style in lines:
        out.print(Text(line, style=style), soft_wrap=True)


def port(
    source: Source,
    target: Target,
    input: Input = None,  # noqa: A002 – the option's name
    shape: Shape = None,
    seed: Seed = 0,
    layouts: Layouts = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write .safetensors, or the target's own format.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write although something is ambiguous.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be moved.")] = False,
    json: JsonOption = None,
) -> None:
    """Move all weights of one model into another of any framework, and prove that they agree."""
    from convspec.cli.reports import json_document
    from convspec.models import arguments, port_weights, text_table

    json_document.writable(json)
    inputs = arguments.inputs(input, shape, seed)
    found = port_weights(
        arguments.model(source), arguments.model(target), inputs, layouts=_both(layouts), force=force, dry_run=dry_run
    )
    if out is not None and found.written:
        found.save(out)
    if json is not None:
        json_document.write(json_document.dumps(found.to_dict()), json)
    if json != "-":
        _show(text_table.port(found))
    settled = not found.ambiguous and not found.left and (found.comparison is None or found.comparison.agrees)
    raise typer.Exit(0 if settled else 1)
