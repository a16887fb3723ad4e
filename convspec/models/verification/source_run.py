"""What the source of a file did in one run, as another process wrote it: its layers, what they read, its results."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from convspec.models.comparison.common_rank import AlignedSpecs, CommonRank, align_specs
from convspec.models.files.messages import unpack
from convspec.models.matching.kernels import Layer
from convspec.models.matching.split_layers import LayerPart
from convspec.spec import Array

_TO_LAST = ((0, 2, 1), (0, 2, 3, 1), (0, 2, 3, 4, 1))
_TO_FIRST = ((0, 2, 1), (0, 3, 1, 2), (0, 4, 1, 2, 3))


@dataclass
class SourceRun:
    """One run of a source.

    Attributes:
        layers: its convolutions and linear layers, in the order of their first calls.
        calls: the paths of the layers called, in this order.
        inputs: files of what each layer read, by path, in the order of the calls; canonical.
        outputs: the model's outputs, in the model's own layout.
        problem: why it could not be run.
        used: files, and parts of layers, that a layer has been compared with.
    """

    layers: list[Layer] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    inputs: dict[str, list[Path]] = field(default_factory=dict)
    outputs: list[Array] = field(default_factory=list)
    problem: str = ""
    used: set[tuple[Path, LayerPart | None]] = field(default_factory=set)

    @property
    def called_layers(self) -> list[Layer]:
        """One layer per call, in the order of the calls, and then the layers without a call."""
        known = {layer.path: layer for layer in self.layers}
        rest = [layer for layer in self.layers if layer.path not in self.calls]
        return [*(known[path] for path in self.calls if path in known), *rest]

    def settle(self, form: CommonRank, x: Array, *, joined: bool = False) -> tuple[AlignedSpecs, Array | None]:
        """Return both specs for the input ``x``, and the source's input; of several calls, of the one that fits.

        Args:
            joined: whether one run of our layer may stand for all calls of the source's.
        """
        piece = form.theirs.part
        files = [(path, piece) for path in self.inputs.get(form.theirs.path, []) if (path, piece) not in self.used]
        channels = slice(piece.start, piece.end) if piece else slice(None)
        stored = [form.reshape_theirs(np.load(path, mmap_mode="r")[:, channels]) for path, _ in files]
        if joined and len(stored) > 1 and sum(len(s) for s in stored) == len(x):
            whole = np.concatenate(stored)
            return align_specs(form, x, whole), whole
        tries: list[tuple[AlignedSpecs, Array | None]] = []
        for file, source in zip(files, stored, strict=True):
            tries.append((align_specs(form, x, source), source))
            if not tries[-1][0].input_difference:
                self.used.add(file)
                return tries[-1]
        if tries:
            self.used.add(files[0])
        return tries[0] if tries else (align_specs(form, x, None), None)


def read_run(index: Path) -> SourceRun:
    """Read what another process wrote of a source (:mod:`convspec.models.verification.verifier`)."""
    document = json.loads(index.read_text("utf-8"))
    files = {file.stem: file for file in index.parent.glob("*.npy")}
    arrays = {name: np.load(files[name], allow_pickle=False) for name in document["loaded"]}
    layers, outputs = (list(unpack(document[name], arrays)) for name in ("layers", "outputs"))
    inputs = {layer.path: list(read) for layer, read in zip(layers, unpack(document["inputs"], files), strict=True)}
    return SourceRun(layers, document["calls"], inputs, outputs)


def match_layout(source: Array, x: Array) -> Array:
    """Return the source's tensor, transposed to the shape of ``x`` if another layout has this shape."""
    same = tuple(range(source.ndim))
    orders = (order for order in (same, *_TO_LAST, *_TO_FIRST) if len(order) == source.ndim)
    return source.transpose(next((o for o in orders if tuple(source.shape[i] for i in o) == x.shape), same))
