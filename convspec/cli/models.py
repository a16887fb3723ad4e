"""``convspec compare``, ``convspec port`` and ``convspec weights``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from convspec.cli.console import console, print_lines, require_writable, write_json
from convspec.cli.options import JsonOption, option
from convspec.errors import RequestError, printable

if TYPE_CHECKING:
    from convspec.models import Comparison, PortReport, VerifyReport, WeightMatches

COMPARE_EXAMPLES = """
A model is `module:factory` or `FILE.py:factory` (the factory is called, perhaps with arguments:
`keras.applications:MobileNetV2(weights=None)`; an instance is used as it is), or a file: ONNX, TorchScript,
`torch.export`, `.keras`, `.tflite`, or the folder of a SavedModel. All except ONNX are loaded in a child process. Exit
status 0: the models' results agree within rounding; 1: they differ, or it is unknown (for example without inputs); 2: a
bad request, or a file that cannot be read. If an ONNX file is quantised or takes other inputs than the other model,
`compare` does the same as `convspec verify --against`.

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
WEIGHTS_EXAMPLES = """
Arrays are matched by their numbers, never by a shape alone. Files: `.safetensors`, `.npz`, `.pt`, `.pth`, `.bin`
(tensors only), `.h5`, `.keras`, `.msgpack`, `.onnx`. Nothing in them is run. Exit status 0: B has all arrays of A, and
arrays of one kind were moved in one way; 1: some are missing, or were moved in another way; 2: a bad request, or a file
that cannot be read.

Examples:

    convspec weights model.pth ported.weights.h5

    convspec weights checkpoint.safetensors
"""

Input = Annotated[str | None, option("Inputs as .npz or .npy, in the first model's layout.", "FILE")]
Shape = Annotated[str | None, option("Shape of a random input; several are separated by `;`.", "N,C,H,W")]
Shapes = Annotated[
    list[str] | None,
    option("Shape of a random input; several inputs are separated by `;`. Repeat it for another size.", "N,C,H,W"),
]
Seed = Annotated[int, option("Random seed for --shape.", "S")]
Layouts = Annotated[
    str | None, option("Layouts of the two models' inputs, e.g. NCHW,NHWC; default: each framework's own.", "L,L")
]


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="The model that is right.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The model that may be wrong.")],
    input: Input = None,  # noqa: A002 – the option's name
    shape: Shapes = None,
    seed: Seed = 0,
    layouts: Layouts = None,
    seconds: Annotated[float, option("Time limit for the search among pairs of mistakes.", min=0)] = 20.0,
    fold_pads: Annotated[
        bool, option("Count a pad right before a convolution as the convolution's padding.", None, "--fold-pads")
    ] = False,
    one_input: Annotated[
        bool, option("Use only the given inputs: no second random input, no scaled one.", None, "--one-input")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Compare two models' results, and layer by layer report where they first diverge."""
    from convspec.models import arguments, verify
    from convspec.models import compare as run_compare

    require_writable(json)
    models, options = _load(a, b, input, shape[0] if shape else None, seed, layouts)
    further = [arguments.load_inputs(None, one, seed) for one in (shape or [])[1:]]
    try:
        result = run_compare(
            *models, **options, further=further, seconds=seconds, fold_pads=fold_pads, one_input=one_input
        )
    except RequestError as error:
        refused_first = str(error).startswith("model a")
        pairs = [(b, models[0], a), (a, models[1], b)][:: -1 if refused_first else 1]
        graph = None if layouts else next(filter(_is_graph, pairs), None)
        if graph is None:
            raise
        words = f"Compared as by `convspec verify {printable(graph[0])} --against {printable(graph[2])}`."
        print_lines([(words, "")], console(stderr=True))
        verified = verify(*graph[:2], options["inputs"])
        _write(verified, json)
        raise typer.Exit(1 if verified.unexpected else 0) from None
    _write(result, json)
    raise typer.Exit(0 if result.agrees else 1)


def _is_graph(pair: tuple[str, Any, str]) -> bool:
    """Return whether the first of two models is a file that `convspec verify` reads."""
    from convspec.contract import registry

    return pair[0].endswith(registry.audit_adapter(pair[0]).graph_files)


def port(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The model that has the weights.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The model that gets them.")],
    input: Input = None,  # noqa: A002 – the option's name
    shape: Shape = None,
    seed: Seed = 0,
    layouts: Layouts = None,
    out: Annotated[str | None, option("Write .safetensors weights, or the target in its own format.", "FILE")] = None,
    force: Annotated[bool, option("Write the weights even if something is ambiguous.", None, "--force")] = False,
    dry_run: Annotated[bool, option("Show what would be moved, and write nothing.", None, "--dry-run")] = False,
    json: JsonOption = None,
) -> None:
    """Move all weights of one model into another of any framework, and check that the two agree."""
    from convspec.models import port_weights

    require_writable(json, out)
    models, options = _load(source, target, input, shape, seed, layouts)
    report = port_weights(*models, **options, force=force, dry_run=dry_run)
    if out is not None and report.written:
        report.save(out)
    _write(report, json)
    raise typer.Exit(0 if report.complete else 1)


def weights(
    a: Annotated[str, typer.Argument(metavar="A", help="The file that is right.")],
    b: Annotated[str | None, typer.Argument(metavar="[B]", help="The file that may be wrong.")] = None,
    json: JsonOption = None,
) -> None:
    """Match the arrays of two files of weights by their numbers, or show the layout of one file."""
    from convspec.models import match_weights

    require_writable(json)
    found = match_weights(a, b)
    _write(found, json)
    raise typer.Exit(0 if found.complete else 1)


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


def _write(result: Comparison | PortReport | VerifyReport | WeightMatches, json: str | None) -> None:
    if not write_json(json, result.to_dict()):
        print_lines(result.styled_lines(), console())
