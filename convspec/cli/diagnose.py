"""``convspec diagnose``: what it reads and what it prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convspec.cli.console import JsonOption, console
from convspec.cli.layer import InChannels, SpecArgument
from convspec.errors import RequestError, UnknownName

if TYPE_CHECKING:
    from rich.console import Console

    from convspec.diagnosis import Diagnosis

NAMES = ("input", "kernel", "bias", "actual")
EXAMPLES = """
The file holds what went in and what came out: `numpy.savez("run.npz", input=x, kernel=w, bias=b, actual=y)`, the kernel
in PyTorch's order. Exit status 0: the numbers are right; 1: they are wrong, whether explained or not; 2: a bad request.

Examples:

    convspec diagnose "nn.Conv2d(3, 16, 3, stride=2, padding=1)" run.npz

    convspec diagnose "keras.layers.Conv2D(16, 3, strides=2, padding='same')" run.npz --in-channels 3 --layout NHWC
"""


def diagnose(
    spec: SpecArgument,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help=".npz or .safetensors of `input`, `kernel`, `bias`, `actual`.")
    ],
    in_channels: InChannels = None,
    layout: Annotated[str, typer.Option(help="Of `input` and `actual`.")] = "NCHW",
    dtype: Annotated[str | None, typer.Option(help="What `actual` was computed in; default: its own.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="For the search among pairs of mistakes.")] = 20.0,
    json: JsonOption = None,
) -> None:
    """Name the known mistake that turns a layer and its input into exactly these wrong numbers."""
    from convspec import diagnosis
    from convspec.cli.reports import json_document
    from convspec.layers import layer_of
    from convspec.spec import DTYPES, ConvParams

    json_document.writable(json)
    if dtype not in (None, *DTYPES):
        raise UnknownName("dtype", str(dtype), DTYPES)
    layer = layer_of(sys.stdin.read() if spec == "-" else spec, in_channels)[0]
    arrays = load(file)
    params = ConvParams(arrays["kernel"], arrays.get("bias"))
    found = diagnosis.diagnose(
        layer, params, arrays["input"], arrays["actual"], layout=layout, dtype=dtype, seconds=seconds
    )
    if json is not None:
        json_document.write(json_document.dumps(found.to_dict()), json)
    if json != "-":
        show(found, console())
    raise typer.Exit(0 if found.agrees else 1)


def load(path: str) -> dict[str, Any]:
    """The arrays ``input``, ``kernel``, ``actual`` and, where there is one, ``bias`` of an .npz or .safetensors file.

    Raises:
        RequestError: if the file cannot be read, is neither, or lacks one of them. Pickled objects are not read.
    """
    try:
        arrays = _safetensors(path) if Path(path).suffix == ".safetensors" else _npz(path)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from None
    missing = [name for name in NAMES if name not in arrays and name != "bias"]
    if missing:
        raise RequestError(f"{path} must hold arrays input, kernel, actual and bias, if any; it lacks {missing}")
    strange = [name for name in NAMES if name in arrays and arrays[name].dtype.kind not in "fiu"]
    if strange:
        raise RequestError(f"{path}: {strange} must be arrays of real numbers")
    return {name: arrays[name] for name in NAMES if name in arrays}


def _npz(path: str) -> dict[str, Any]:
    from zipfile import BadZipFile

    import numpy as np

    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise RequestError(f"{path} holds a single array; put input, kernel, bias and actual in one .npz")
        with file:
            return {name: file[name] for name in NAMES if name in file.files}
    except RequestError:
        raise
    except (ValueError, EOFError, BadZipFile):
        raise RequestError(f"{path} is no .npz file of plain arrays (pickled objects are not read)") from None


def _safetensors(path: str) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            present = set(file.keys())
            return {name: file.get_tensor(name) for name in NAMES if name in present}
    except (SafetensorError, TypeError) as error:
        raise RequestError(f"{path} is no .safetensors file that NumPy can hold: {error}") from None


def show(diagnosis: Diagnosis, console: Console) -> None:
    """Print the diagnosis, in colours where the console has them."""
    from rich.text import Text

    from convspec.diagnosis import lines

    for line, style in lines(diagnosis):
        console.print(Text(line, style=style), soft_wrap=True)
