"""Build and run ncnn nets of one convolution; there are no gradients."""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

from convspec.contract import Array, ConvParams, Plan, check_layout
from convspec.errors import PlacementError, UnsupportedError
from convspec_ncnn.param_file import nodes
from convspec_ncnn.weights import to_ncnn

_threads: list[int] = []
_files: dict[int, tuple[str, bytes]] = {}  # of living nets, by id: what is loaded into a net cannot be read from it


def build(plan: Plan, params: ConvParams, device: str, variant: str = "default") -> Any:
    """The net that the plan's text defines, with these weights."""
    _check(device)
    net, spec = plan.execute(), plan.spec
    kernel = to_ncnn(params.kernel, transposed=spec.transposed, groups=spec.groups)
    arrays = [np.zeros(1, "<u4"), kernel.astype("<f4"), *([] if params.bias is None else [params.bias.astype("<f4")])]
    data = b"".join(array.tobytes() for array in arrays)
    net.opt.use_winograd_convolution = variant != "direct"
    if _threads:
        net.opt.num_threads = _threads[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.bin"  # ncnn keeps pointers into weights that are loaded from memory
        path.write_bytes(data)
        if net.load_model(str(path)):
            raise RuntimeError("ncnn does not load the weights")
    text = plan.text.split('"""')[1].removeprefix("\\\n")
    _files[id(net)] = text, data
    weakref.finalize(net, _files.pop, id(net), None)
    return net


def files(net: Any) -> tuple[str, bytes]:
    """The .param text and the .bin of a net that was built here.

    Raises:
        UnsupportedError: for any other net.
    """
    if id(net) not in _files:
        raise UnsupportedError("a net does not give back its weights: give the path of its .param file")
    return _files[id(net)]


def apply(layer: Any, x: Array, layout: str, device: str, variant: str = "default") -> Array:  # noqa: ARG001
    """The net's outputs for ``x``, both in ``layout``; ncnn has no batch axis, so the samples are run one by one."""
    _check(device)
    conv = next(node for node in nodes(files(layer)[0]) if node.is_convolution)
    ndim = int(conv.kind[-2]) if conv.kind.endswith("D") else 2
    taps = int(np.prod([conv.given[1 + 10 * axis] for axis in range(ndim)]))
    check_layout(x, conv.given[6] // (conv.given[0] * taps) * conv.given.get(7, 1), layout, ndim)
    samples = x if len(x) else np.zeros((1, *x.shape[1:]), x.dtype)
    return np.stack([run(layer, sample) for sample in samples])[: len(x)]


def run(net: Any, sample: Array, blob: str = "x", wanted: str = "y") -> Array:
    """One blob of the net for another."""
    held = np.ascontiguousarray(sample, np.float32)
    extractor = net.create_extractor()
    # A Mat of an array borrows its memory, and has no gaps between channels, as layers with groups expect.
    extractor.input(blob, ncnn.Mat(held).clone())
    status, found = extractor.extract(wanted)
    if status:
        raise RuntimeError(f"ncnn ends with status {status} for an input of shape {held.shape}")
    return np.array(found)


def configure(*, dtype: str, device: str, precision: str, threads: int | None, variant: str = "default") -> None:  # noqa: ARG001
    """The number of threads of nets that are built from now on."""
    _threads[:] = [] if threads is None else [threads]


def _check(device: str) -> None:
    if device != "cpu":
        raise PlacementError(f"ncnn is run on the cpu here, not on {device!r}")
