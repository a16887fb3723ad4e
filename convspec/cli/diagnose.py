"""``convspec diagnose``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from convspec.cli.console import console, print_lines, require_writable, write_json
from convspec.cli.layer import InChannels, SpecArgument
from convspec.cli.options import JsonOption, option
from convspec.cli.streams import read_input
from convspec.errors import RequestError, UnknownName

NAMES = ("input", "kernel", "bias", "actual")
EXAMPLES = """
FILE holds the input, the weights and the output: `numpy.savez("run.npz", input=x, kernel=w, bias=b, actual=y)`, the
kernel in PyTorch's order. Exit status 0: the output is right; 1: it is wrong, explained or not; 2: a bad request.

Examples:

    convspec diagnose "nn.Conv2d(3, 16, 3, stride=2, padding=1)" run.npz

    convspec diagnose "keras.layers.Conv2D(16, 3, strides=2, padding='same')" run.npz --in-channels 3 --layout NHWC
"""


def diagnose(
    spec: SpecArgument,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="File of `input`, `kernel`, `bias`, `actual`: .npz or .safetensors.")
    ],
    in_channels: InChannels = None,
    layout: Annotated[str, option("Layout of `input` and `actual`: NCHW or NHWC.")] = "NCHW",
    dtype: Annotated[str | None, option("Dtype that `actual` was computed in; default: its own.")] = None,
    seconds: Annotated[float, option("Time limit for the search among pairs of mistakes.", min=0)] = 20.0,
    json: JsonOption = None,
) -> None:
    """Name the known mistake that gives exactly this wrong output of a layer."""
    from convspec import diagnosis
    from convspec.layers import layer_of
    from convspec.spec import DTYPES, ConvParams

    require_writable(json)
    if dtype not in (None, *DTYPES):
        raise UnknownName("dtype", str(dtype), DTYPES)
    layer = layer_of(read_input() if spec == "-" else spec, in_channels)[0]
    arrays = load(file)
    params = ConvParams(arrays["kernel"], arrays.get("bias"))
    result = diagnosis.diagnose(
        layer, params, arrays["input"], arrays["actual"], layout=layout, dtype=dtype, seconds=seconds
    )
    if not write_json(json, result.to_dict()):
        print_lines(diagnosis.lines(result), console())
    raise typer.Exit(0 if result.agrees else 1)


def load(path: str) -> dict[str, Any]:
    """Return the arrays ``input``, ``kernel``, ``actual`` and, if present, ``bias`` of an .npz or .safetensors file.

    Raises:
        RequestError: if the file cannot be read, lacks one of them, or holds pickled objects.
    """
    from convspec.models import arguments

    arrays = _safetensors(path) if Path(path).suffix == ".safetensors" else arguments.read_arrays(path)
    missing = [name for name in NAMES if name not in arrays and name != "bias"]
    if missing:
        raise RequestError(f"{path} must hold arrays input, kernel, actual and bias, if any; it lacks {missing}")
    strange = [name for name in NAMES if name in arrays and arrays[name].dtype.kind not in "fiu"]
    if strange:
        raise RequestError(f"{path}: {strange} must be arrays of real numbers")
    return {name: arrays[name] for name in NAMES if name in arrays}


def _safetensors(path: str) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            present = set(file.keys())
            return {name: file.get_tensor(name) for name in NAMES if name in present}
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from None
    except (SafetensorError, TypeError) as error:
        raise RequestError(f"{path} is not a .safetensors file that NumPy can hold: {error}") from None
