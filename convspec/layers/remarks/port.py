"""What is ported from where to where, and what is said about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from convspec.contract import Support
from convspec.layers import kernel_orders
from convspec.spec import ConvSpec, Pads, layouts

NAMES = {
    "torch": "PyTorch",
    "flax": "Flax",
    "keras": "Keras",
    "onnx": "ONNX",
    "equinox": "Equinox",
    "openvino": "OpenVINO",
}


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that a naive translation gets wrong, or that its author should know.

    Attributes:
        id: its short name, stable.
        text: one or two sentences, with this layer's numbers.
        code: NumPy statements that do what the text asks for, one a line; empty where there is nothing to do.
    """

    id: str
    text: str
    code: str = ""

    def to_dict(self) -> dict[str, str]:
        """The fields that are not empty."""
        return {"id": self.id, "text": self.text, **({"code": self.code} if self.code else {})}


@dataclass(frozen=True, slots=True)
class Port:
    """A layer on its way from one framework to another.

    Attributes:
        spec: the layer.
        target: name of the adapter that it goes to.
        support: the target's.
        text: the target's program; empty where there is none.
        layout: of the target's tensors.
        source: name of the adapter that it comes from, None where it is a spec.
        source_layout: of the source's tensors.
        arguments: those of the source's constructor, by name, literals only.
        function: the source's constructor, ``Conv2d``.
        spatial: the input's spatial sizes, None where they are not known.
    """

    spec: ConvSpec
    target: str
    support: Support
    text: str = ""
    layout: str = layouts.CHANNELS_FIRST
    source: str | None = None
    source_layout: str = layouts.CHANNELS_FIRST
    arguments: Mapping[str, Any] = field(default_factory=dict)
    function: str = ""
    spatial: tuple[int, ...] | None = None

    @property
    def to(self) -> str:
        """The framework that it goes to: ``"keras"``, on whichever backend."""
        return framework(self.target)

    @property
    def of(self) -> str | None:
        """The framework that it comes from; None for a spec."""
        return None if self.source is None else framework(self.source)

    @property
    def letters(self) -> str:
        return layouts.spatial_letters(self.spec.ndim)

    @property
    def pads(self) -> Pads | None:
        """The pads where they are numbers, whatever the input's size."""
        return None if isinstance(self.spec.padding, str) else self.spec.padding

    @property
    def stored(self) -> tuple[kernel_orders.Stored, kernel_orders.Stored]:
        """The orders of the kernel where it comes from and where it goes."""
        spec = self.spec
        before = kernel_orders.canonical(spec)
        if self.of == "keras":
            before = kernel_orders.keras(spec, depthwise=self.function.startswith("Depthwise"))
        elif self.of == "flax":
            turned = bool(self.arguments.get("transpose_kernel", False))
            dilated = spec.transposed and self.function == "Conv"
            before = kernel_orders.flax(spec, dilated=dilated, transpose_kernel=turned)
        elif self.of == "equinox":
            before = kernel_orders.equinox(spec)
        return before, kernel_orders.of_plan(spec, self.to, self.text)


def framework(adapter: str) -> str:
    """``"keras"`` of ``"keras-jax"``, ``"torch"`` of ``"torch:channels_last"``."""
    return adapter.partition(":")[0].partition("-")[0]


Remarks = Iterator[Remark]


def per_axis(values: Any, letters: str) -> str:
    """``(1, 2)`` where all axes have it, else ``(1, 2) along H and (0, 1) along W``."""
    values = list(values)
    if len(set(values)) == 1:
        return str(values[0])
    return listed([f"{value} along {letter}" for value, letter in zip(values, letters, strict=True)])


def listed(words: list[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
