"""What an adapter promises, and the part of the promise that is the same for all."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from convspec import layouts
from convspec.errors import FrameworkAbsent, ShapeError, UnknownName, UnsupportedError
from convspec.plan import Plan, Support

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convspec.parameters import ConvParams
    from convspec.spec import ConvSpec

    Array = NDArray[np.floating[Any]]

Self = TypeVar("Self", bound="PlannedAdapter")


@dataclass(frozen=True, eq=False, slots=True)
class Gradients:
    """Gradients of ⟨y, dy⟩, in canonical order: ``input`` as x's layout, ``kernel``, ``bias`` (None without one)."""

    input: Array
    kernel: Array
    bias: Array | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read off a framework's own layer."""

    spec: ConvSpec
    params: ConvParams
    layout: str


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How a layer computes, for the bounds.

    Attributes:
        accumulator: the format in which products are summed.
        output_roundings: m, how often a result is rounded to the layer's dtype: 1, or 2 with a separate bias add.
        flushes_subnormals: whether numbers below the smallest normal one become 0.
        inputs: the format that inputs and kernels are rounded to before they are multiplied, where it is
            coarser than the layer's dtype (``"tf32"`` on a GPU as shipped); None where it is not.
    """

    accumulator: str
    output_roundings: int = 1
    flushes_subnormals: bool = False
    inputs: str | None = None


@runtime_checkable
class Adapter(Protocol):
    """Translates between ConvSpec and one framework's own layers. All arrays are NumPy's, on the host.

    Layouts are ``"NCHW"`` or ``"NHWC"`` (also for 1-D and 3-D layers: where the channel axis stands), dtypes the
    names in :data:`convspec.dtypes.DTYPES`; bfloat16 travels as float32 holding representable values.
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
        """Gradients of ⟨layer(x), dy⟩: input in ``layout``, kernel and bias in canonical order."""
        ...

    def arithmetic(
        self, spec: ConvSpec, dtype: str = "float32", device: str = "cpu", precision: str = "shipped"
    ) -> Arithmetic:
        """How such a layer computes, for the bounds; ``precision`` is ``"shipped"`` or ``"strict"``."""
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


@dataclass(frozen=True)
class PlannedAdapter:
    """The part of the contract that follows from a package's ``plan.py`` and ``layer.py``.

    ``package`` is the import name. Its ``plan.py`` has ``plan(spec, layout, dtype) -> Plan`` and
    ``arithmetic(spec, dtype, device, precision) -> Arithmetic``; its ``layer.py`` has ``build(plan, params, device)``,
    ``apply(layer, x, layout, device)``, ``gradients(layer, x, dy, layout, device)``, ``devices()`` and
    ``configure(dtype, device, precision, threads)``. Where there are several variants, all of ``layer.py``'s functions
    but ``devices`` take ``variant`` too. The framework is imported on the first call of those.
    """

    name: str
    package: str
    requires: tuple[str, ...]
    distributions: tuple[str, ...]
    native_layout: str
    dtypes: tuple[str, ...]
    variants: tuple[str, ...] = ("default",)
    variant: str = "default"
    layouts: tuple[str, ...] = layouts.LAYOUTS

    def with_variant(self: Self, name: str) -> Self:
        if name not in self.variants:
            raise UnknownName(f"variant of adapter {self.name!r}", name, self.variants)
        return dataclasses.replace(self, variant=name)

    def plan(self, spec: ConvSpec, layout: str = "NCHW", dtype: str = "float32") -> Plan:
        if dtype not in self.dtypes:
            raise UnsupportedError(f"{self.name} has no {dtype} convolution; it has {', '.join(self.dtypes)}")
        if spec.ndim > 3:
            raise UnsupportedError(f"{self.name} has no convolution with {spec.ndim} spatial axes, only 1 to 3")
        plan: Plan = self._module("plan").plan(spec, layouts.family(layout, spec.ndim), dtype)
        return plan

    def support(
        self,
        spec: ConvSpec,
        layout: str = "NCHW",
        dtype: str = "float32",
        device: str = "cpu",
        input_shape: Sequence[int] | None = None,
    ) -> Support:
        try:
            return self.plan(spec, layout, dtype).support
        except UnsupportedError as error:
            return Support("unsupported", str(error))

    def source(self, spec: ConvSpec, layout: str = "NCHW", dtype: str = "float32") -> str:
        return self.plan(spec, layout, dtype).text

    def build(
        self, spec: ConvSpec, params: ConvParams, layout: str | None = None, dtype: str = "float32", device: str = "cpu"
    ) -> Any:
        params.check(spec)
        return self._call("build", self.plan(spec, layout or self.native_layout, dtype), params, device)

    def apply(self, layer: Any, x: Array, layout: str | None = None, device: str = "cpu") -> Array:
        y: Array = self._call("apply", layer, x, layout or self.native_layout, device)
        return y

    def gradients(self, layer: Any, x: Array, dy: Array, layout: str | None = None, device: str = "cpu") -> Gradients:
        result: Gradients = self._call("gradients", layer, x, dy, layout or self.native_layout, device)
        return result

    def devices(self) -> tuple[str, ...]:
        found: tuple[str, ...] = self._layer().devices()
        return found

    def versions(self) -> dict[str, str]:
        from importlib.metadata import PackageNotFoundError, version

        found = {}
        for name in self.distributions:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        return found

    def arithmetic(
        self, spec: ConvSpec, dtype: str = "float32", device: str = "cpu", precision: str = "shipped"
    ) -> Arithmetic:
        result: Arithmetic = self._module("plan").arithmetic(spec, dtype, device, precision)
        return result

    def configure(
        self, *, dtype: str = "float32", device: str = "cpu", precision: str = "shipped", threads: int | None = None
    ) -> None:
        self._call("configure", dtype=dtype, device=device, precision=precision, threads=threads)

    def parse(self, call: str, in_channels: int | None = None) -> ConvSpec:
        spec: ConvSpec = self._module("parse").parse(call, in_channels)
        return spec

    def gaps(self) -> str:
        return files(self.package).joinpath("known_gaps.toml").read_text(encoding="utf-8")

    def _module(self, name: str) -> Any:
        return importlib.import_module(f"{self.package}.{name}")

    def _call(self, function: str, *args: Any, **kwargs: Any) -> Any:
        """A function of the package's ``layer`` module, told the variant where there are several."""
        if len(self.variants) > 1:
            kwargs["variant"] = self.variant
        return getattr(self._layer(), function)(*args, **kwargs)

    def _layer(self) -> Any:
        """The package's ``layer`` module, which imports the framework."""
        with present(self.name, self.requires):
            return self._module("layer")


class present:
    """Turn the absence of a framework – and of nothing else – into FrameworkAbsent."""

    def __init__(self, adapter: str, requires: tuple[str, ...]) -> None:
        self.adapter, self.requires = adapter, requires

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ModuleNotFoundError) and error.name in self.requires:
            extra = self.adapter.split("-")[0]
            raise FrameworkAbsent(
                f"adapter {self.adapter!r} needs {error.name}, which is not installed: pip install 'convspec[{extra}]'",
                name=error.name,
            ) from error


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
