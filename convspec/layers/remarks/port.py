"""A layer on its way from one framework to another, and the form of a remark on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from convspec.contract import Support
from convspec.layers import kernel_orders
from convspec.layers.sentences import listed
from convspec.spec import ConvSpec, Pads, layouts

NAMES = {
    "torch": "PyTorch", "flax": "Flax", "keras": "Keras", "onnx": "ONNX", "equinox": "Equinox", "openvino": "OpenVINO",
    "mlx": "MLX", "litert": "LiteRT", "ncnn": "ncnn",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Remark:
    """One difference between two frameworks that matters for this layer.

    Attributes:
        id: a short, stable name.
        text: one to three sentences, with this layer's numbers.
        code: NumPy statements that the text calls for, one per line; may be empty.
    """

    id: str
    text: str
    code: str = ""

    def __str__(self) -> str:
        return f"{self.id}: {self.text}"

    def to_dict(self) -> dict[str, str]:
        """Return the fields that are not empty."""
        return {"id": self.id, "text": self.text, **({"code": self.code} if self.code else {})}


@dataclass(frozen=True, slots=True)
class Port:
    """A layer on its way from one framework to another.

    Attributes:
        spec: the layer.
        target: name of the target's adapter.
        support: the target's support for the layer.
        text: the target's program; empty if unsupported.
        layout: layout of the target's tensors.
        source: name of the source's adapter; None if the source is a spec.
        source_layout: layout of the source's tensors.
        arguments: arguments of the source's constructor, by name, literals only.
        function: name of the source's constructor, ``Conv2d``.
        spatial: spatial sizes of the input; None if unknown.
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
        """The target framework: ``"keras"`` for every backend."""
        return framework(self.target)

    @property
    def of(self) -> str | None:
        """The source framework; None for a spec."""
        return None if self.source is None else framework(self.source)

    @property
    def sides(self) -> tuple[str, str]:
        """The names of source and target in texts: ``PyTorch`` and ``Keras``."""
        source = "the spec" if self.of is None else NAMES.get(self.of, self.of)
        target = NAMES.get(self.to, self.to)
        return (f"{source} (source)", f"{target} (target)") if source == target else (source, target)

    @property
    def letters(self) -> str:
        return layouts.spatial_letters(self.spec.ndim)

    @property
    def pads(self) -> Pads | None:
        """The pads if they are numbers; None if they depend on the input's size."""
        return None if isinstance(self.spec.padding, str) else self.spec.padding

    @property
    def stored(self) -> tuple[kernel_orders.Stored, kernel_orders.Stored]:
        """The kernel's order in the source and in the target."""
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
        elif self.of == "mlx":
            before = kernel_orders.unflipped(spec, "O*I")
        return before, kernel_orders.of_plan(spec, self.to, self.text)


def framework(adapter: str) -> str:
    """Return the framework of an adapter: ``"keras"`` of ``"keras-jax"``, ``"torch"`` of ``"torch:channels_last"``."""
    return adapter.partition(":")[0].partition("-")[0]


Remarks = Iterator[Remark]


def per_axis(values: Any, letters: str) -> str:
    """Return ``(1, 2)`` if all axes have this value, else ``(1, 2) along H and (0, 1) along W``."""
    values = list(values)
    if len(set(values)) == 1:
        return str(values[0])
    return listed([f"{value} along {letter}" for value, letter in zip(values, letters, strict=True)])
