"""What an adapter promises."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from convspec.contract.plan import Plan, Support
from convspec.errors import ShapeError
from convspec.spec import layouts

if TYPE_CHECKING:
    from convspec.spec import Array, ComputePrecision, ConvParams, ConvSpec, Gradients, Pads


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read off a framework's own layer.

    Attributes:
        spec: the layer; its padding in numbers where it is composed, since it was read for one input's size.
        params: its weights in the canonical order, bit for bit; bfloat16 in float32.
        layout: ``"NCHW"`` or ``"NHWC"``: the layout of the tensors that the layer takes.
        dtype: name of the weights' format.
    """

    spec: ConvSpec
    params: ConvParams
    layout: str
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Found:
    """One convolution of a model: its path, and what was read, or why nothing could be.

    Attributes:
        pads: ``(before, after)`` for each spatial axis: the cells of pads before it that its spec contains; none where
            no pad was folded.
        note: why a pad before it was not folded, where that was asked for.
    """

    path: str
    reading: Reading | None
    problem: str = ""
    pads: Pads = ()
    note: str = ""


@runtime_checkable
class Adapter(Protocol):
    """Translates between ConvSpec and one framework's own layers. All arrays are NumPy's, on the host.

    Layouts are ``"NCHW"`` or ``"NHWC"`` (also for 1-D and 3-D layers: where the channel axis stands), dtypes the
    names in :data:`convspec.spec.dtypes.DTYPES`; bfloat16 travels as float32 holding representable values.
    """

    name: str
    requires: tuple[str, ...]
    layouts: tuple[str, ...]
    dtypes: tuple[str, ...]
    variants: tuple[str, ...]
    variant: str

    def with_variant(self, name: str) -> Adapter:
        """The same adapter in another of its ``variants`` (say, another memory format or optimisation level)."""
        ...

    def devices(self) -> tuple[str, ...]:
        """The devices that the installed framework can run on here, asked of the framework: ``("cpu", "cuda")``."""
        ...

    def versions(self) -> dict[str, str]:
        """Name and version of each distribution that the numbers depend on."""
        ...

    def support(
        self,
        spec: ConvSpec,
        layout: str = "NCHW",
        dtype: str = "float32",
        device: str = "cpu",
        input_shape: Sequence[int] | None = None,
    ) -> Support:
        """native, composed(why) or unsupported(why); ``input_shape`` is in ``layout``, None: for some size."""
        ...

    def plan(self, spec: ConvSpec, layout: str = "NCHW", dtype: str = "float32") -> Plan:
        """The layer's program. Raises UnsupportedError with the reason where there is none."""
        ...

    def source(self, spec: ConvSpec, layout: str = "NCHW", dtype: str = "float32") -> str:
        """The plan's text: runnable, idiomatic code that defines ``layer``."""
        ...

    def build(
        self, spec: ConvSpec, params: ConvParams, layout: str | None = None, dtype: str = "float32", device: str = "cpu"
    ) -> Any:
        """The framework's own layer with these weights; ``layout=None`` is the framework's own layout."""
        ...

    def apply(self, layer: Any, x: Array, layout: str | None = None, device: str = "cpu") -> Array:
        """The layer's output, in the same ``layout`` as ``x``; nothing is transposed on the way.

        Raises:
            ShapeError: where ``x`` cannot be in that layout.
            PlacementError: where the framework ran on another device, or answered in another dtype.
        """
        ...

    def gradients(self, layer: Any, x: Array, dy: Array, layout: str | None = None, device: str = "cpu") -> Gradients:
        """Gradients of ⟨layer(x), dy⟩: input in ``layout``, kernel and bias in canonical order.

        Raises:
            UnsupportedError: with the reason, where the framework has no gradients.
        """
        ...

    def owns(self, kind: type) -> bool:
        """Whether objects of this class are the framework's; asked of a layer's own class, then of its bases."""
        ...

    def read(self, layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
        """The spec and the weights of any layer of the framework, by whomever it was made.

        A plain convolution is read off its attributes. A layer with pads, crops or moves of axes around its
        convolution is run on an input of shape ``input_shape`` – in the layer's own layout – whose numbers say where
        they came from; its spec has explicit padding.

        Raises:
            UnsupportedError: saying what cannot be read, and why.
        """
        ...

    def convs(self, model: Any, input_shape: Sequence[int] | None = None, *, fold_pads: bool = False) -> list[Found]:
        """Every convolution of a model, each by itself, with its path; ``input_shape`` where the model must be run.

        With ``fold_pads`` a pad that stands right before a convolution is part of its spec.

        Raises:
            UnsupportedError: where there is none, listing what the model has instead.
        """
        ...

    def arithmetic(
        self,
        spec: ConvSpec,
        dtype: str = "float32",
        device: str = "cpu",
        precision: str = "shipped",
        direction: str = "forward",
        input_shape: Sequence[int] | None = None,
        layout: str | None = None,
    ) -> ComputePrecision:
        """How such a layer computes, for the bounds; ``precision`` is ``"shipped"`` or ``"strict"``.

        ``direction`` is one of :data:`DIRECTIONS`: the output, or the gradient with respect to what it names.
        ``input_shape`` is canonical, ``(N, C, *spatial)``; without it the input is one sample without pads.
        ``layout=None`` is the framework's own.
        """
        ...

    def configure(
        self, *, dtype: str = "float32", device: str = "cpu", precision: str = "shipped", threads: int | None = None
    ) -> None:
        """Set process-wide switches (x64, TF32, threads, GPU memory). Called by workers only, before any build."""
        ...

    def parse(self, call: str, in_channels: int | None = None) -> ConvSpec:
        """The spec that a constructor of the framework describes, given as text and parsed as literals.

        Raises:
            CallError: where the text cannot be read; the message shows the place.
            SpecError: where the layer that it describes breaks a rule.
        """
        ...

    def gaps(self) -> str:
        """The adapter's declared gaps: the text of its ``known_gaps.toml``."""
        ...


@runtime_checkable
class LoadsFiles(Protocol):
    """An adapter that also takes files. They are programs: they are loaded in a process of their own only.

    ``files`` says which: how a name ends (``".keras"``), or what a folder holds (``"saved_model.pb"``). What ``load``
    returns is a model to the adapter's ``convs`` and ``read``, and to its package's ``model.py``.
    """

    files: tuple[str, ...]

    def load(self, path: str) -> Any:
        """The model in a file. Raises RequestError or UnsupportedError: saying what it is instead, or what it lacks."""
        ...

    def store(self, model: Any, path: str) -> None:
        """Write a loaded model as a whole, in the format that the name says. Raises UnsupportedError."""
        ...


@runtime_checkable
class Scripted(Protocol):
    """An adapter whose layers can also be run by a script of plain framework code, for a framework's issue tracker."""

    def script(
        self,
        spec: ConvSpec,
        layout: str = "NCHW",
        dtype: str = "float32",
        device: str = "cpu",
        direction: str = "forward",
    ) -> str:
        """Code that makes the layer, gives it the weights, runs it, and leaves its result in ``actual``.

        Everything is NumPy's: ``x`` and ``dy`` in ``layout``, ``kernel`` and ``bias`` in canonical order are there
        when the code begins, ``actual`` has the order that :meth:`Adapter.apply` or :meth:`Adapter.gradients` gives.

        Raises:
            UnsupportedError: with the reason, where there is no such script.
        """
        ...


def check_layout(x: Array, channels: int, layout: str, ndim: int) -> None:
    """Raise ShapeError where ``x`` cannot be a batch of ``channels`` channels in ``layout``."""
    if x.ndim != ndim + 2:
        raise ShapeError(
            f"input of shape {x.shape} has {x.ndim} axes, but this layer expects {ndim + 2}: "
            f"{layouts.name(layout, ndim)}"
        )
    axis = 1 if layouts.family(layout, ndim) == layouts.CHANNELS_FIRST else -1
    if x.shape[axis] != channels:
        other = -1 if axis == 1 else 1
        hint = ""
        if x.shape[other] == channels:
            hint = f"; axis {other % x.ndim} is {channels}: this looks like the other layout"
        raise ShapeError(
            f"input of shape {x.shape}: axis {axis % x.ndim} must be {channels} channels "
            f"({layouts.name(layout, ndim)}), but is {x.shape[axis]}{hint}"
        )


@functools.cache
def kernel_axes(target: str, ndim: int, *, transposed: bool) -> tuple[int, ...]:
    """The axes that bring a canonical kernel to order ``target`` (``*IO``, ``*OI``, …).

    I and O stand for whatever the canonical kernel has: I/g in a regular, O/g in a transposed one.
    """
    return layouts.permutation("IO*" if transposed else "OI*", target, ndim)
