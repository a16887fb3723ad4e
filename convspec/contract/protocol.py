"""What an adapter is, and the default of each part that it may leave out."""

from __future__ import annotations

import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from convspec.contract.plan import Plan, Support
from convspec.errors import CallError, ConvspecError, UnknownName, UnsupportedError
from convspec.spec import ComputePrecision, copies, layouts

if TYPE_CHECKING:
    from convspec.contract.model_parts import ModelModule
    from convspec.contract.network_code import Target
    from convspec.contract.network_words import Vocabulary
    from convspec.spec import Array, ConvParams, ConvSpec, Gradients, Pads, QuantSpec


@dataclass(frozen=True, slots=True)
class Reading:
    """A framework's own layer as a spec and weights.

    Attributes:
        spec: the layer; its padding is numbers where the layer is composed, which is read for one input size.
        params: its weights in the canonical order, bit for bit; bfloat16 in float32.
        layout: ``"NCHW"`` or ``"NHWC"``: the layout of the tensors that the layer takes.
        dtype: name of the weights' format.
    """

    spec: ConvSpec
    params: ConvParams
    layout: str
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class FoundConv:
    """One convolution of a model: its path and its reading, or why it cannot be read.

    Attributes:
        pads: ``(before, after)`` for each spatial axis of the preceding pads that its spec contains; empty where no
            pad was folded.
        note: why a preceding pad was not folded, where folding was asked for.
    """

    path: str
    reading: Reading | None
    problem: str = ""
    pads: Pads = ()
    note: str = ""

    @classmethod
    def of(cls, path: str, read: Callable[[], Reading]) -> FoundConv:
        """Return the convolution that ``read()`` reads, or the reason why it cannot be read."""
        try:
            return cls(path, read())
        except ConvspecError as error:
            return cls(path, None, str(error))


@dataclass(frozen=True, slots=True)
class LayerRequest:
    """How a layer is to be run.

    Attributes:
        layout: ``"NCHW"`` or ``"NHWC"``; None: the framework's own.
        precision: ``"shipped"``, the framework's defaults, or ``"strict"``, no coarser inputs such as tf32.
        direction: one of :data:`~convspec.spec.DIRECTIONS`: the output, or the gradient with respect to what it names.
        input_shape: canonical, ``(N, C, *spatial)``; None: one sample without pads.
    """

    layout: str | None = None
    dtype: str = "float32"
    device: str = "cpu"
    precision: str = "shipped"
    direction: str = "forward"
    input_shape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class QuantizedForm:
    """One way in which a framework writes a quantised layer.

    Attributes:
        name: the framework's word: an operator, an engine.
        layer: the framework's own object.
        run: returns the layer's integers for an array of integers, in the layout that the layer was built for.
        integer_sums: whether the products are added as integers; where not, the framework may dequantise the numbers
            and convolve them in float32.
    """

    name: str
    layer: Any
    run: Callable[[Array], Array]
    integer_sums: bool = True


class Adapter(ABC):
    """Translates between ConvSpec and one framework's own layers. All arrays are NumPy's, on the host.

    What is not abstract may be left out. Layouts are ``"NCHW"`` or ``"NHWC"`` at every rank (the position of the
    channel axis), dtypes the names in :data:`convspec.spec.dtypes.DTYPES`; bfloat16 travels as float32 holding
    representable values.

    Attributes:
        name: of the entry point.
        requires: import names without which nothing works.
        native_layout: the framework's own layout.
        dtypes: formats that some layer of the framework has.
        layouts: layouts that some layer of the framework takes.
        variants: names of ways to run the same layer, for example memory formats; ``variant`` is this adapter's.
        costly: those variants that take too long for ``all`` and ``name:*``: they run only where they are named, with
            longer time limits.
        files: model files that are programs, loaded in a child process by :meth:`load`: how a name ends
            (``".keras"``), or what a folder contains (``"saved_model.pb"``).
        graph_files: how names of graph files end that are data, no programs: such a path is a model to :meth:`convs`
            and to the model module (``".onnx"``).
        weight_files: how names of files end whose arrays :meth:`load_weights` returns (``".pth"``).
        audit_module: a child process serves it to audit a graph file; empty where the adapter has no audit.
        audit_levels: the ways to run a file that an audit compares, where they are no levels of graph optimisation.
        vectors_module: writes and runs cases as the backend tests of a graph format; empty where there is none.
        messages_module: writes vectors of the pack in that format without the framework; empty where there is none.
    """

    name: str
    requires: tuple[str, ...]
    native_layout: str
    dtypes: tuple[str, ...]
    layouts: tuple[str, ...] = layouts.LAYOUTS
    variants: tuple[str, ...] = ("default",)
    variant: str = "default"
    costly: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    graph_files: tuple[str, ...] = ()
    weight_files: tuple[str, ...] = ()
    audit_module: str = ""
    audit_levels: tuple[str, ...] = ()
    vectors_module: str = ""
    messages_module: str = ""

    def with_variant(self, name: str) -> Self:
        """Return the same adapter in another of its ``variants``; raises UnknownName."""
        if name not in self.variants:
            raise UnknownName(f"variant of adapter {self.name!r}", name, self.variants)
        other = copy.copy(self)
        object.__setattr__(other, "variant", name)  # adapters may be frozen
        return other

    def devices(self) -> tuple[str, ...]:
        """Return the devices that the installed framework can use here: ``("cpu", "cuda")``."""
        return ("cpu",)

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Return name and version of each distribution that the numbers depend on."""

    # -- layers --------------------------------------------------------------------------------------------------------

    def support(
        self,
        spec: ConvSpec,
        layout: str = "NCHW",
        dtype: str = "float32",
        device: str = "cpu",
        input_shape: Sequence[int] | None = None,
    ) -> Support:
        """Return native, composed(why) or unsupported(why); ``input_shape`` is in ``layout``, None: for some size."""
        try:
            found = self.plan(spec, layout, dtype).support
        except UnsupportedError as error:
            return Support("unsupported", str(error))
        reason = self._refusal(spec, layout, dtype, device, input_shape)
        return Support("unsupported", reason) if reason else found

    def _refusal(self, spec: ConvSpec, layout: str, dtype: str, device: str, shape: Sequence[int] | None) -> str:
        """Return why the framework does not compute a planned layer on this device or size; empty where it does."""
        return ""

    @abstractmethod
    def plan(self, spec: ConvSpec, layout: str = "NCHW", dtype: str = "float32") -> Plan:
        """Return the layer's program. Raises UnsupportedError with the reason where the framework has none."""

    def source(self, spec: ConvSpec, layout: str = "NCHW", dtype: str = "float32") -> str:
        """Return the program that the plan shows: runnable, idiomatic code that defines ``layer``."""
        return self.plan(spec, layout, dtype).shown

    @abstractmethod
    def build(
        self, spec: ConvSpec, params: ConvParams, layout: str | None = None, dtype: str = "float32", device: str = "cpu"
    ) -> Any:
        """Return the framework's own layer with these weights; ``layout=None`` is the framework's own layout."""

    @abstractmethod
    def apply(self, layer: Any, x: Array, layout: str | None = None, device: str = "cpu") -> Array:
        """Return the layer's output, in the same ``layout`` as ``x``; nothing is transposed on the way.

        Raises:
            ShapeError: where ``x`` cannot be in that layout.
            PlacementError: where the framework ran on another device, or answered in another dtype.
        """

    def gradients(self, layer: Any, x: Array, dy: Array, layout: str | None = None, device: str = "cpu") -> Gradients:
        """Return the gradients of ⟨layer(x), dy⟩: input in ``layout``, kernel and bias in canonical order.

        Raises:
            UnsupportedError: with the reason, where the framework has no gradients.
        """
        raise UnsupportedError(f"{self.name} has no gradients: it runs forward only")

    def quantized(
        self, spec: ConvSpec, quant: QuantSpec, params: ConvParams, layout: str | None = None
    ) -> tuple[QuantizedForm, ...]:
        """Return a quantised layer in every form that the framework has, for the CPU; ``params`` are integers.

        Raises:
            UnsupportedError: with the reason, where it has none.
        """
        raise UnsupportedError(f"adapter {self.name!r} builds no quantised layers")

    @abstractmethod
    def compute_precision(self, spec: ConvSpec, request: LayerRequest = LayerRequest()) -> ComputePrecision:
        """Return how such a layer computes, for the error bounds."""

    def configure(  # noqa: B027 – not every framework has switches
        self, *, dtype: str = "float32", device: str = "cpu", precision: str = "shipped", threads: int | None = None
    ) -> None:
        """Set process-wide switches (x64, TF32, threads, GPU memory). Called by workers only, before any build."""

    def parse(self, call: str, in_channels: int | None = None) -> ConvSpec:
        """Return the spec that a constructor of the framework describes, given as text and parsed as literals.

        Raises:
            CallError: where the text cannot be read; the message shows the place.
            SpecError: where the layer that it describes breaks a rule.
        """
        raise CallError(call, f"adapter {self.name!r} reads no constructors: write the layer as JSON")

    def vocabulary(self) -> Vocabulary | None:
        """Return the words in which the framework's users write networks; None where the adapter has none."""
        return None

    def network_target(self) -> Target | None:
        """Return how the framework's users write networks; None where the adapter writes none."""
        return None

    def gaps(self) -> str:
        """Return the adapter's declared gaps: the text of its ``known_gaps.toml``."""
        return ""

    def messages(self) -> str:
        """Return the framework's messages with their meaning, for ``explain``: the text of ``messages.toml``."""
        return ""

    def script(self, spec: ConvSpec, request: LayerRequest = LayerRequest()) -> str:
        """Return plain framework code that builds the layer, runs it and assigns its result to ``actual``.

        It is for a framework's issue tracker. NumPy arrays are defined when the code begins: ``x`` and ``dy`` in
        ``request.layout``, ``kernel`` and ``bias`` in canonical order; ``actual`` has the order that :meth:`apply` or
        :meth:`gradients` returns.

        Raises:
            UnsupportedError: with the reason, where there is no such script.
        """
        raise UnsupportedError(f"adapter {self.name!r} writes no scripts")

    def plain_calls(self) -> Mapping[str, str]:
        """Return, by the modules of its models' classes, code that defines ``call(model, arrays)`` without convspec.

        It returns the model's result in evaluation, nested lists and dictionaries of what ``np.asarray`` takes.
        """
        return {}

    # -- layers and models of others -----------------------------------------------------------------------------------

    def owns(self, kind: type) -> bool:
        """Return whether objects of this class are the framework's; asked of an object's class, then of its bases."""
        return False

    def read(self, layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
        """Return the spec and the weights of any layer of the framework, however it was created.

        A plain convolution is read from its attributes. A layer with pads, crops or moved axes around its convolution
        is run on an input of shape ``input_shape`` – in the layer's own layout – whose values encode their position;
        its spec has explicit padding.

        Raises:
            UnsupportedError: saying what cannot be read, and why.
        """
        raise UnsupportedError(f"adapter {self.name!r} reads no layers")

    def convs(
        self, model: Any, input_shape: Sequence[int] | None = None, *, fold_pads: bool = False
    ) -> list[FoundConv]:
        """Return every convolution of a model, each by itself; ``input_shape`` where the model must be run.

        With ``fold_pads`` a pad immediately before a convolution is part of its spec.

        Raises:
            UnsupportedError: where there is none, listing what the model has instead.
        """
        raise UnsupportedError(f"adapter {self.name!r} reads no models")

    def model_module(self) -> ModelModule:
        """Return the functions that run, read and write whole models. Raises UnsupportedError where it has none."""
        raise UnsupportedError(f"adapter {self.name!r} reads layers, but does not run models")

    def load(self, path: str) -> Any:
        """Return the model in one of ``files``, for :meth:`convs`, :meth:`read` and :meth:`model_module`.

        Raises:
            RequestError, UnsupportedError: saying what the file is instead, or what it lacks.
        """
        raise UnsupportedError(f"adapter {self.name!r} loads no files")

    def store(self, model: Any, path: str) -> None:
        """Write a loaded model as a whole, in the format that the name says. Raises UnsupportedError."""
        raise UnsupportedError(f"adapter {self.name!r} writes no files")

    def load_weights(self, path: str) -> dict[str, Array]:
        """Return all arrays in one of ``weight_files`` by name; nothing that the file holds is run, none other is read.

        Raises:
            RequestError: saying what the file is instead.
        """
        raise UnsupportedError(f"adapter {self.name!r} reads no weights")


@functools.cache
def kernel_axes(target: str, ndim: int, *, transposed: bool) -> tuple[int, ...]:
    """Return the axes that bring a canonical kernel to order ``target`` (``*IO``, ``*OI``, …).

    I and O stand for the axes of the canonical kernel: I/g in a regular, O/g in a transposed one.
    """
    return layouts.permutation("IO*" if transposed else "OI*", target, ndim)


def xla_precision(spec: ConvSpec, request: LayerRequest) -> ComputePrecision:
    """Return how JAX's convolution computes: sums in float32, or float64 for float64.

    In half precision the bias is added to the rounded result, the gradient of the bias is a sum over dy in the layer's
    own dtype (measured: 2048 + 1 + 1 + … stays 2048), and gradients of elements that a pad has copied are summed in
    that dtype too. XLA flushes subnormals on the CPU. On a GPU float32 is multiplied as tf32 unless the precision is
    strict.
    """
    dtype, direction = request.dtype, request.direction
    half = dtype in {"float16", "bfloat16"}
    roundings = 1 + (half and direction == "forward" and spec.bias)
    if half and direction == "input" and request.input_shape:
        roundings += copies(spec, request.input_shape[2:]) - 1
    tf32 = (request.device, dtype, request.precision) == ("cuda", "float32", "shipped") and direction != "bias"
    accumulator = dtype if dtype == "float64" or (half and direction == "bias") else "float32"
    return ComputePrecision(accumulator, roundings, flushes_subnormals=True, inputs="tf32" if tf32 else None)
