"""Read ncnn's .param text and its .bin: layers in order, their arguments by number, and the weights of convolutions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from convspec.contract import Array, ConvParams, ConvSpec, Reading
from convspec.errors import UnsupportedError
from convspec_ncnn.weights import from_ncnn

_MAGIC = "7767517"
_KIND = re.compile(r"(Decon|Con)volution(DepthWise)?([13]D)?")
_FLOAT32, _FLOAT16 = 0, 0x01306B47
_AUTO = {-233: "same", -234: "same_lower"}
_WITHOUT_WEIGHTS = re.compile(
    "AbsVal|BinaryOp|Clip|Concat|Crop|CumulativeSum|DeepCopy|Dropout|ELU|Eltwise|Exp|ExpandDims|Flatten|GELU|HardSigmoid|"
    "HardSwish|Input|Interp|Log|LRN|Mish|Noop|Packing|Padding|Permute|PixelShuffle|Pooling|Pooling1D|Pooling3D|Power|"
    "Reduction|ReLU|Reorg|Reshape|SELU|ShuffleChannel|Sigmoid|Slice|Softmax|Softplus|Split|Squeeze|Swish|TanH|Threshold|"
    "Tile|UnaryOp"
)


@dataclass(frozen=True, slots=True)
class Node:
    """A line of the .param text; ``given`` has its arguments by number."""

    kind: str
    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    given: dict[int, int] = field(default_factory=dict)

    @property
    def is_convolution(self) -> bool:
        return _KIND.fullmatch(self.kind) is not None


def nodes(text: str) -> list[Node]:
    """The layers of a .param text.

    Raises:
        UnsupportedError: where it is none.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or lines[0] != [_MAGIC]:
        raise UnsupportedError(f"it is not a .param file of ncnn, which begins with {_MAGIC}")
    try:
        return [_node(words) for words in lines[2:]]
    except (ValueError, IndexError):
        raise UnsupportedError("it is not a .param file of ncnn: a line has other words than a layer's") from None


def _node(words: list[str]) -> Node:
    kind, name, reads, writes = words[0], words[1], int(words[2]), int(words[3])
    blobs, rest = words[4 : 4 + reads + writes], words[4 + reads + writes :]
    pairs = [word.split("=", 1) for word in rest]
    given = {int(key): int(value) for key, value in pairs if re.fullmatch(r"-?\d+", value)}
    return Node(kind, name, tuple(blobs[:reads]), tuple(blobs[reads:]), given)


def weighted(found: list[Node], data: bytes) -> Iterator[tuple[Node, Array | None, Array | None, str]]:
    """Yield each convolution with its weights and bias as stored, or why they are not known."""
    place, lost = 0, ""
    for node in found:
        if _WITHOUT_WEIGHTS.fullmatch(node.kind):
            continue
        if node.is_convolution or node.kind == "InnerProduct":
            bias, size = (5, 6) if node.is_convolution else (1, 2)
            kernel = b = None
            if not lost:
                kernel, b, place, lost = _arrays(
                    data, place, node.given.get(size, 0), node.given.get(0, 0) * node.given.get(bias, 0)
                )
            if node.is_convolution:
                yield node, kernel, b, lost
        elif node.kind == "BatchNorm":
            place += 16 * node.given.get(0, 0)
        elif node.kind == "PReLU":
            place += 4 * node.given.get(0, 0)
        else:
            lost = lost or f"its weights follow those of a {node.kind}, whose size is not known here"


def _arrays(data: bytes, place: int, size: int, biases: int) -> tuple[Array | None, Array | None, int, str]:
    flag = int.from_bytes(data[place : place + 4], "little")
    kind, width = {_FLOAT32: ("<f4", 4), _FLOAT16: ("<f2", 2)}.get(flag, ("", 0))
    if not kind:
        return None, None, place, "its weights are neither float32 nor float16"
    end = place + 4 + -(-size * width // 4) * 4
    if len(data) < end + 4 * biases:
        return None, None, place, "the .bin file ends before its weights"
    kernel = np.frombuffer(data, kind, size, place + 4).astype(np.float32)
    bias = np.frombuffer(data, "<f4", biases, end).copy() if biases else None
    return kernel, bias, end + 4 * biases, ""


def reading(node: Node, kernel: Array | None, bias: Array | None, problem: str) -> Reading:
    """The convolution as spec and weights.

    Raises:
        UnsupportedError: where its weights are not known, or where it exceeds a spec.
    """
    if problem or kernel is None:
        raise UnsupportedError(problem)
    match, given = _KIND.fullmatch(node.kind), node.given
    assert match is not None
    if given.get(9):
        raise UnsupportedError(f"it has an activation of its own, 9={given[9]}")
    ndim, transposed, groups = int((match[3] or "2")[0]), match[1] == "Decon", given.get(7, 1)

    def axes(key: int, default: int) -> tuple[int, ...]:
        first = given.get(key, default)
        return tuple(given.get(key + 10 * axis, first) for axis in reversed(range(ndim)))

    size = axes(1, 0)
    outputs = given.get(0, 0)
    inputs = len(kernel) // max(outputs * int(np.prod(size)), 1) * groups
    before = axes(4, 0)
    after = tuple(given.get(15 + axis, given.get(4 + 10 * axis, before[-1])) for axis in reversed(range(ndim)))
    padding = (
        _AUTO[before[0]] if before[0] in _AUTO and len(set(before)) == 1 else tuple(zip(before, after, strict=True))
    )
    extra = tuple(given.get(18 + axis, given.get(18, 0)) for axis in reversed(range(ndim))) if transposed else 0
    spec = ConvSpec(
        inputs, outputs, size, axes(3, 1), padding, axes(2, 1), groups, bias is not None,
        transposed=transposed, output_padding=extra, ndim=ndim,
    )  # fmt: skip
    stored = kernel.reshape(outputs, inputs // groups, *size)
    canonical = np.ascontiguousarray(from_ncnn(stored, transposed=transposed, groups=groups))
    return Reading(spec, ConvParams(canonical, bias).check(spec), "NCHW")
