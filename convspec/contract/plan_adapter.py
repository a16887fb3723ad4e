"""The base of adapters whose layers come from plans: each part is a module of the adapter's package."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from convspec.contract.constructor_calls import read_layer
from convspec.contract.model_parts import ModelModule
from convspec.contract.plan import Plan
from convspec.contract.protocol import Adapter, FoundConv, LayerRequest, QuantizedForm, Reading
from convspec.contract.registry import sentence
from convspec.errors import FrameworkAbsent, SpecError, UnsupportedError
from convspec.spec import ComputePrecision, Gradients, layouts

if TYPE_CHECKING:
    from convspec.contract.network_code import Target
    from convspec.contract.network_words import Vocabulary
    from convspec.contract.tracing.pad_folding import Before
    from convspec.spec import Array, ConvParams, ConvSpec, QuantSpec

T = TypeVar("T")


def _no_gradients(*_: Any, **__: Any) -> Gradients:
    raise UnsupportedError("the framework has no gradients: it runs forward only")


@dataclass(frozen=True, slots=True)
class LayerModule:
    """The functions of an adapter's ``layer.py``; those with a default may be left out.

    All but ``devices`` take ``variant`` too where the adapter has several.

    Attributes:
        build: ``build(plan, params, device) -> layer``.
        apply: ``apply(layer, x, layout, device) -> y``.
        gradients: ``gradients(layer, x, dy, layout, device) -> Gradients``.
        devices: ``devices() -> tuple[str, ...]``.
        configure: ``configure(*, dtype, device, precision, threads)``.
    """

    build: Callable[..., Any]
    apply: Callable[..., Array]
    gradients: Callable[..., Gradients] = _no_gradients
    devices: Callable[[], tuple[str, ...]] = field(default=lambda: ("cpu",))
    configure: Callable[..., None] = field(default=lambda **_: None)


@dataclass(frozen=True)
class PlanAdapter(Adapter):
    """An adapter whose parts are the modules of one package; the framework is imported when one of them needs it.

    ====================  =============================================================================================
    ``plan.py``           ``plan(spec, layout, dtype) -> Plan``;
                          ``compute_precision(spec, request) -> ComputePrecision``, where ``request.layout`` is given
    ``layer.py``          the functions of :class:`LayerModule`
    ``quantized.py``      ``quantized(plan, quant, params) -> tuple[QuantizedForm, ...]``; it takes ``variant`` too
                          where the adapter has several
    ``read.py``           ``read(layer, input_shape) -> Reading``; ``convs(model, input_shape) -> list[FoundConv]``
    ``pads.py``           ``before(model, input_shape)``: the pads before each convolution, by its path
    ``network.py``        ``VOCABULARY``: the words in which its users write layers and networks
    ``parse.py``          ``parse(text, in_channels) -> ConvSpec``, where there is no vocabulary
    ``network_code.py``   ``TARGET``: how a network is written for it
    ``model.py``          the functions of :class:`ModelModule`
    ``files.py``          ``load(path)``; ``store(model, path)``
    ``weight_files.py``   ``load_weights(path) -> dict[str, Array]``
    ``script.py``         ``script(plan, request, adapter) -> str``: the text of :meth:`Adapter.script`;
                          ``CALL``: that of :meth:`Adapter.plain_calls`
    ``known_gaps.toml``   the declared gaps
    ``messages.toml``     the framework's errors and warnings, explained
    ====================  =============================================================================================

    Only ``plan.py`` and ``layer.py`` must exist; without another module the adapter raises UnsupportedError there.

    Attributes:
        package: import name of the package.
        distributions: whose versions a report shows.
        roots: classes of these modules, or of modules below them, are the framework's.
    """

    name: str
    package: str
    requires: tuple[str, ...]
    distributions: tuple[str, ...]
    native_layout: str
    dtypes: tuple[str, ...]
    variants: tuple[str, ...] = ("default",)
    variant: str = "default"
    costly: tuple[str, ...] = ()
    layouts: tuple[str, ...] = layouts.LAYOUTS
    roots: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    graph_files: tuple[str, ...] = ()
    weight_files: tuple[str, ...] = ()
    audit_module: str = ""
    audit_levels: tuple[str, ...] = ()
    vectors_module: str = ""
    messages_module: str = ""

    def devices(self) -> tuple[str, ...]:
        return self._layer().devices()

    def versions(self) -> dict[str, str]:
        from importlib import metadata

        found = {}
        for name in self.distributions:
            with suppress(metadata.PackageNotFoundError):
                found[name] = metadata.version(name)
        return found

    # -- layers --------------------------------------------------------------------------------------------------------

    def plan(self, spec: ConvSpec, layout: str = "NCHW", dtype: str = "float32") -> Plan:
        if dtype not in self.dtypes:
            raise UnsupportedError(f"{self.name} has no {dtype} convolution; it has {', '.join(self.dtypes)}")
        if spec.ndim > 3:
            raise UnsupportedError(f"{self.name} has no convolution with {spec.ndim} spatial axes, only 1 to 3")
        plan: Plan = self._module("plan").plan(spec, layouts.family(layout, spec.ndim), dtype)
        return plan

    def build(
        self, spec: ConvSpec, params: ConvParams, layout: str | None = None, dtype: str = "float32", device: str = "cpu"
    ) -> Any:
        params.check(spec)
        plan = self.plan(spec, layout or self.native_layout, dtype)
        return self._layer().build(plan, params, device, **self._variant())

    def apply(self, layer: Any, x: Array, layout: str | None = None, device: str = "cpu") -> Array:
        return self._layer().apply(layer, x, layout or self.native_layout, device, **self._variant())

    def gradients(self, layer: Any, x: Array, dy: Array, layout: str | None = None, device: str = "cpu") -> Gradients:
        return self._layer().gradients(layer, x, dy, layout or self.native_layout, device, **self._variant())

    def quantized(
        self, spec: ConvSpec, quant: QuantSpec, params: ConvParams, layout: str | None = None
    ) -> tuple[QuantizedForm, ...]:
        module = self._optional("quantized")
        if module is None:
            return super().quantized(spec, quant, params, layout)
        params.check(spec)
        plan = self.plan(spec, layout or self.native_layout)
        forms: tuple[QuantizedForm, ...] = module.quantized(plan, quant.check(spec), params, **self._variant())
        return forms

    def compute_precision(self, spec: ConvSpec, request: LayerRequest = LayerRequest()) -> ComputePrecision:
        layout = layouts.family(request.layout or self.native_layout, spec.ndim)
        result: ComputePrecision = self._module("plan").compute_precision(spec, replace(request, layout=layout))
        return result

    def configure(
        self, *, dtype: str = "float32", device: str = "cpu", precision: str = "shipped", threads: int | None = None
    ) -> None:
        given = {"dtype": dtype, "device": device, "precision": precision, "threads": threads}
        self._layer().configure(**given, **self._variant())

    def parse(self, call: str, in_channels: int | None = None) -> ConvSpec:
        module, words = self._optional("parse"), self.vocabulary()
        if module is None and words is not None:
            return read_layer(call, words, in_channels)
        spec: ConvSpec = super().parse(call, in_channels) if module is None else module.parse(call, in_channels)
        return spec

    def vocabulary(self) -> Vocabulary | None:
        module = self._optional("network")
        words: Vocabulary | None = getattr(module, "VOCABULARY", None)
        return words

    def network_target(self) -> Target | None:
        target: Target | None = getattr(self._optional("network_code"), "TARGET", None)
        return target

    def gaps(self) -> str:
        return self._text("known_gaps.toml")

    def messages(self) -> str:
        return self._text("messages.toml")

    def _text(self, name: str) -> str:
        from importlib import resources

        file = resources.files(self.package).joinpath(name)
        return file.read_text("utf-8") if file.is_file() else ""

    def script(self, spec: ConvSpec, request: LayerRequest = LayerRequest()) -> str:
        module = self._optional("script")
        if module is None:
            return super().script(spec, request)
        plan = self.plan(spec, request.layout or self.native_layout, request.dtype)
        text: str = module.script(plan, request, self)
        return text

    def plain_calls(self) -> Mapping[str, str]:
        text = vars(self._optional("script", object)).get("CALL", "")
        return dict.fromkeys(self.roots, text) if text else {}

    # -- layers and models of others -----------------------------------------------------------------------------------

    def owns(self, kind: type) -> bool:
        return any(f"{kind.__module__}.".startswith(f"{root}.") for root in self.roots)

    def read(self, layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
        try:
            reading: Reading = self._optional("read", super()).read(layer, input_shape)
        except SpecError as error:
            raise UnsupportedError(f"no spec describes this layer: {error}") from error
        return reading

    def convs(
        self, model: Any, input_shape: Sequence[int] | None = None, *, fold_pads: bool = False
    ) -> list[FoundConv]:
        found: list[FoundConv] = self._optional("read", super()).convs(model, input_shape)
        if not fold_pads:
            return found
        pads = self._optional("pads")
        if pads is None:
            raise UnsupportedError(f"adapter {self.name!r} does not find the pads before a convolution")
        from convspec.contract.tracing import folded  # needs NumPy

        before: Mapping[str, Before] = pads.before(model, input_shape)
        return [folded(one, before.get(one.path, ())) for one in found]

    def model_module(self) -> ModelModule:
        module = self._optional("model")
        return functions(ModelModule, module) if module else super().model_module()

    def load(self, path: str) -> Any:
        return self._optional("files", super()).load(path)

    def store(self, model: Any, path: str) -> None:
        self._optional("files", super()).store(model, path)

    def load_weights(self, path: str) -> dict[str, Array]:
        with present(self.name, self.requires):
            arrays: dict[str, Array] = self._optional("weight_files", super()).load_weights(path)
        return arrays

    # -- modules -------------------------------------------------------------------------------------------------------

    def _variant(self) -> dict[str, str]:
        return {"variant": self.variant} if len(self.variants) > 1 else {}

    def _module(self, name: str) -> Any:
        """Return a module of the package; an adapter may replace it by another."""
        return importlib.import_module(f"{self.package}.{name}")

    def _layer(self) -> LayerModule:
        with present(self.name, self.requires):
            return functions(LayerModule, self._module("layer"))

    def _optional(self, name: str, default: Any = None) -> Any:
        """Return a module that the author may have left out; the default where it was."""
        try:
            with present(self.name, self.requires):
                return self._module(name)
        except ModuleNotFoundError as error:
            if error.name != f"{self.package}.{name}":
                raise
            return default


def functions(kind: type[T], module: ModuleType) -> T:
    """Return the functions of a module as an instance of the dataclass that lists them, with its defaults."""
    names = [entry.name for entry in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: value for name, value in vars(module).items() if name in names})


@contextmanager
def present(adapter: str, requires: tuple[str, ...]) -> Iterator[None]:
    """Turn the absence of a required module, and no other ImportError, into FrameworkAbsent."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in requires:
            raise
        raise FrameworkAbsent(sentence(adapter, [error.name]), name=error.name) from error
