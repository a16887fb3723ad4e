"""``convspec compare`` and ``convspec port``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from convspec.cli.console import JsonOption, console, print_lines
from convspec.errors import RequestError

if TYPE_CHECKING:
    from convspec.models import Comparison, PortReport

COMPARE_EXAMPLES = """
A model is `module:factory`, which is imported and called – an instance is taken as it is –, or a file: ONNX,
TorchScript, `torch.export`, `.keras`, or the folder of a SavedModel. The last four are programs, loaded in a child
process. Exit status 0: the models agree; 1: they diverge; 2: a bad request, or a file that cannot be read.

Examples:

    convspec compare mynet.torch_model:build mynet.keras_model:build --shape 2,3,64,48

    convspec compare mynet.torch_model:build exported.onnx --input batch.npz --json report.json

    convspec compare model.pt2 saved_model/ --shape 1,3,64,48 --layouts NCHW,NHWC
"""
PORT_EXAMPLES = """
Models are named as for `compare`. Exit status 0: all weights were moved (or, with --dry-run, would be) and the models
agree; 1: something is ambiguous, has no counterpart, or still differs; 2: a bad request. A target that is a file is not
changed: `--out` writes the new one.

Examples:

    convspec port mynet.torch_model:build mynet.keras_model:build --shape 1,3,64,48 --out ported.weights.h5

    convspec port mynet.torch_model:build mynet.flax_model:build --shape 1,3,64,48 --dry-run --json -

    convspec port model.pt mynet.keras --shape 1,3,64,48 --out ported.keras
"""

ModelA = Annotated[str, typer.Argument(metavar="A", help="The model that is right.")]
ModelB = Annotated[str, typer.Argument(metavar="B", help="The model that may be wrong.")]
Source = Annotated[str, typer.Argument(metavar="SOURCE", help="The model that has the weights.")]
Target = Annotated[str, typer.Argument(metavar="TARGET", help="The model that gets them.")]
Input = Annotated[str | None, typer.Option(metavar="FILE", help="Inputs as .npz or .npy, in the first model's layout.")]
Shape = Annotated[
    str | None, typer.Option(metavar="N,C,H,W", help="Shape of a random input; several are separated by `;`.")
]
Seed = Annotated[int, typer.Option(metavar="S", help="Random seed for --shape.")]
Layouts = Annotated[
    str | None, typer.Option(metavar="L,L", help="Layouts of the two models' inputs, e.g. NCHW,NHWC; default: theirs.")
]
Seconds = Annotated[float, typer.Option(min=0, help="Time limit for the search among pairs of mistakes.")]
FoldPads = Annotated[
    bool, typer.Option("--fold-pads", help="Count a pad right before a convolution as the convolution's padding.")
]
Out = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write .safetensors weights, or the target in its own format.")
]
Force = Annotated[bool, typer.Option("--force", help="Write the weights even if something is ambiguous.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be moved, and write nothing.")]


def compare(
    a: ModelA,
    b: ModelB,
    input: Input = None,  # noqa: A002 – the option's name
    shape: Shape = None,
    seed: Seed = 0,
    layouts: Layouts = None,
    seconds: Seconds = 20.0,
    fold_pads: FoldPads = False,
    json: JsonOption = None,
) -> None:
    """Compare two models layer by layer and report the first layer that diverges."""
    from convspec.cli.reports import json_document
    from convspec.models import compare as run_compare

    json_document.writable(json)
    models, options = _load(a, b, input, shape, seed, layouts)
    result = run_compare(*models, **options, seconds=seconds, fold_pads=fold_pads)
    _write(result, json)
    raise typer.Exit(0 if result.agrees else 1)


def port(
    source: Source,
    target: Target,
    input: Input = None,  # noqa: A002 – the option's name
    shape: Shape = None,
    seed: Seed = 0,
    layouts: Layouts = None,
    out: Out = None,
    force: Force = False,
    dry_run: DryRun = False,
    json: JsonOption = None,
) -> None:
    """Move all weights of one model into another of any framework, and check that the two agree."""
    from convspec.cli.reports import json_document
    from convspec.models import port_weights

    json_document.writable(json)
    models, options = _load(source, target, input, shape, seed, layouts)
    report = port_weights(*models, **options, force=force, dry_run=dry_run)
    if out is not None and report.written:
        report.save(out)
    _write(report, json)
    complete = not report.ambiguous and not report.left and (report.comparison is None or report.comparison.agrees)
    raise typer.Exit(0 if complete else 1)


def _load(
    a: str, b: str, file: str | None, shape: str | None, seed: int, layouts: str | None
) -> tuple[list[Any], dict[str, Any]]:
    """Return both models, and the inputs with their layouts."""
    from convspec.models import arguments

    names = (None, None) if layouts is None else tuple(layouts.split(","))
    if layouts is not None and (len(names) != 2 or not {*names} <= {"NCHW", "NHWC"}):
        raise RequestError(f"{layouts!r} must be two layouts, such as NCHW,NHWC")
    inputs = arguments.load_inputs(file, shape, seed)
    return [arguments.load_model(name) for name in (a, b)], {"inputs": inputs, "layouts": names}


def _write(result: Comparison | PortReport, json: str | None) -> None:
    from convspec.cli.reports import json_document

    if json is not None:
        json_document.write(json_document.dumps(result.to_dict()), json)
    if json != "-":
        print_lines(result.styled_lines(), console())
