"""The part of an adapter that is the same for all whose layers come from plans."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeVar

from convspec.contract.plan import Plan, Support
from convspec.contract.protocol import Found, Reading
from convspec.contract.registry import sentence
from convspec.errors import FrameworkAbsent, SpecError, UnknownName, UnsupportedError
from convspec.spec import ComputePrecision, Gradients, layouts

if TYPE_CHECKING:
    from convspec.contract.tracing.pad_folding import Before
    from convspec.spec import Array, ConvParams, ConvSpec

Self = TypeVar("Self", bound="PlanAdapter")


@dataclass(frozen=True)
class PlanAdapter:
    """The part of the contract that follows from a package's ``plan.py`` and ``layer.py``.

    ``package`` is the import name. Its ``plan.py`` has ``plan(spec, layout, dtype) -> Plan`` and
    ``arithmetic(spec, dtype, device, precision, direction, input_shape, layout) -> ComputePrecision``; its ``layer.py``
    has ``build(plan, params, device)``, ``apply(layer, x, layout, device)``, ``gradients(layer, x, dy, layout,
    device)``, ``devices()`` and ``configure(dtype, device, precision, threads)``. Where there are several variants, all
    of ``layer.py``'s functions but ``devices`` take ``variant`` too. Its ``read.py`` has ``read(layer, input_shape) ->
    Reading`` and ``convs(model, input_shape) -> list[Found]``; its ``pads.py`` has ``before(model, input_shape)``, the
    pads before each convolution by its path. The framework is imported on the first call of those. Where it reads files
    that are programs, its ``files.py`` has ``load(path)`` and ``store(model, path)``. Where its layers can be run by a
    script, its ``script.py`` has ``script(plan, device, direction, variant, adapter)``, the text of
    :class:`convspec.contract.protocol.Scripted`.

    Classes whose module is one of ``roots``, or below one, are the framework's.
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
    roots: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

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

    def script(
        self,
        spec: ConvSpec,
        layout: str = "NCHW",
        dtype: str = "float32",
        device: str = "cpu",
        direction: str = "forward",
    ) -> str:
        if importlib.util.find_spec(f"{self.package}.script") is None:
            raise UnsupportedError(f"the package of adapter {self.name!r} has no script.py")
        plan = self.plan(spec, layout, dtype)
        text: str = self._module("script").script(plan, device, direction, self.variant, self.name)
        return text

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

    def owns(self, kind: type) -> bool:
        return any(f"{kind.__module__}.".startswith(f"{root}.") for root in self.roots)

    def read(self, layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
        try:
            reading: Reading = self._reader().read(layer, input_shape)
        except SpecError as error:
            raise UnsupportedError(f"no spec describes this layer: {error}") from error
        return reading

    def convs(self, model: Any, input_shape: Sequence[int] | None = None, *, fold_pads: bool = False) -> list[Found]:
        found: list[Found] = self._reader().convs(model, input_shape)
        if not fold_pads:
            return found
        try:
            with present(self.name, self.requires):
                pads = self._module("pads")
        except ModuleNotFoundError as error:
            if error.name != f"{self.package}.pads":
                raise
            raise UnsupportedError(f"adapter {self.name!r} does not know what stands before a convolution") from None
        from convspec.contract.tracing import folded  # needs NumPy

        before: Mapping[str, Before] = pads.before(model, input_shape)
        return [folded(one, before.get(one.path, ())) for one in found]

    def load(self, path: str) -> Any:
        with present(self.name, self.requires):
            return self._module("files").load(path)

    def store(self, model: Any, path: str) -> None:
        self._module("files").store(model, path)

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
        self,
        spec: ConvSpec,
        dtype: str = "float32",
        device: str = "cpu",
        precision: str = "shipped",
        direction: str = "forward",
        input_shape: Sequence[int] | None = None,
        layout: str | None = None,
    ) -> ComputePrecision:
        layout = layouts.family(layout or self.native_layout, spec.ndim)
        given = (dtype, device, precision, direction, input_shape, layout)
        result: ComputePrecision = self._module("plan").arithmetic(spec, *given)
        return result

    def configure(
        self, *, dtype: str = "float32", device: str = "cpu", precision: str = "shipped", threads: int | None = None
    ) -> None:
        self._call("configure", dtype=dtype, device=device, precision=precision, threads=threads)

    def parse(self, call: str, in_channels: int | None = None) -> ConvSpec:
        spec: ConvSpec = self._module("parse").parse(call, in_channels)
        return spec

    def gaps(self) -> str:
        return resources.files(self.package).joinpath("known_gaps.toml").read_text(encoding="utf-8")

    def _module(self, name: str) -> Any:
        return importlib.import_module(f"{self.package}.{name}")

    def _call(self, function: str, *args: Any, **kwargs: Any) -> Any:
        """A function of the package's ``layer`` module, told the variant where there are several."""
        if len(self.variants) > 1:
            kwargs["variant"] = self.variant
        return getattr(self._layer(), function)(*args, **kwargs)

    def _reader(self) -> Any:
        """The package's ``read`` module, which imports the framework."""
        with present(self.name, self.requires):
            return self._module("read")

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
            raise FrameworkAbsent(sentence(self.adapter, [error.name]), name=error.name) from error
