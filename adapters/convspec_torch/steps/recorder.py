"""Record the steps of a run: every outermost call of a function, and the tensors between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

from torch import Tensor, float16, float32, float64, nn, strided
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from convspec.contract import Array, ConvParams, ConvSpec, Part, Reading, StepTrace, TracedStep, layouts
from convspec.contract.network_words import NotKnown
from convspec.contract.tracing import Frame, Link, NoWord, paths_of_links
from convspec.errors import ConvspecError
from convspec.spec.steps import Other, Parameter
from convspec_torch.functions import NO_LAYER, Functions, dtype_of
from convspec_torch.steps import activations, arithmetic, layers, moves, pools
from convspec_torch.steps.calls import Call, macs_of, tensors_in
from convspec_torch.steps.flow import Flow, Known, copied

_LAYER_FUNCTIONS = frozenset(("linear", "batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"))
ATTRIBUTE, UNSEEN = "attribute", "constant"  # tensors that a module keeps, and those that no function was seen to make


class Recorder:
    """Steps and tensors of a run, in the order of execution.

    Args:
        parameters: all parameters and buffers by path.
        own: convolutions that compute in their own way; their function has the layer's path.
        attributes: other tensors that modules keep.
        by_weight: whether layers are named by their weights, as those of a program that does not know its modules.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        own: Mapping[str, Part],
        attributes: Sequence[Tensor] = (),
        *,
        by_weight: bool = False,
    ) -> None:
        self.steps: list[TracedStep] = []
        self.tensors: list[Array] = []
        self._frames = [Frame()]
        self._flow = Flow()
        self._busy = 0
        self._args: Mapping[int, int] = {}  # numbers of the arguments of the call in progress, before it
        self._functions = Functions((), own, [])
        self._by_weight = by_weight
        self._uncounted = False  # whether PyTorch has yet to count the changes of the call in progress
        self._parameters = dict(parameters)  # kept alive, so that their notes stay
        self._attributes = list(attributes)
        for t in self._attributes:
            self._flow.note(t, data=False, made=ATTRIBUTE)
        for path, t in self._parameters.items():
            self._flow.note(t, data=False, sources=(path,))

    def trace(self, inputs: Sequence[int], results: Sequence[Tensor]) -> StepTrace:
        """Return all that was recorded, with the model's results."""
        outputs = tuple(self.number(t) for t in results)
        shapes = {path: tuple(t.shape) for path, t in self._parameters.items()}
        return StepTrace(self.steps, self.tensors, tuple(inputs), outputs, shapes, self._functions.parts)

    # -- tensors -------------------------------------------------------------------------------------------------------

    def add_input(self, t: Tensor) -> int:
        """List an input of the model; returns its position."""
        return self._write(t)

    def number(self, t: Tensor) -> int:
        """Return the position of a tensor as it is now; one that comes from nowhere is listed as a parameter."""
        with self._ignoring():
            known = self._known(t)
            if known.number is None:
                known.number = self._parameter(t, known)
            return known.number

    def _known(self, t: Tensor) -> Known:
        """Return what is known of a tensor; one that was changed where nobody saw it gets a step that says so."""
        known = self._flow.find(t)
        if known is not None:
            return known
        origin = self._flow.changed(t)
        if not origin:
            return self._flow.note(t, data=False, made=UNSEEN)
        number = self._write(t)
        name = "change in place"
        self._step(TracedStep(self._frames[-1].path_of(name), Other(name), tuple(origin), (number,), name=name))
        known = self._flow.find(t)
        assert known is not None
        return known

    def _write(self, t: Tensor, *, changed: bool = False) -> int:
        self.tensors.append(copied(t))
        number = len(self.tensors) - 1
        self._flow.note(t, data=True, number=number, changed=changed, uncounted=changed and self._uncounted)
        return number

    def _parameter(self, t: Tensor, known: Known) -> int:
        values = self._values(t, known)
        self.tensors.append(values)
        number = len(self.tensors) - 1
        path = known.sources[0] if len(known.sources) == 1 else self._frames[-1].path_of(known.made)
        made = f"made by {known.made}" if known.made not in ("", ATTRIBUTE) else ""
        note = "drawn at random" if known.made in RANDOM else made
        note = "made by code that is not seen, perhaps of the inputs" if known.made == UNSEEN else note
        self._step(TracedStep(path, Parameter(tuple(t.shape)), (), (number,), {"value": values},
                              {"value": known.sources}, known.made or "Parameter", note=note))  # fmt: skip
        return number

    def _kept(self, t: Tensor) -> Array:
        return self._values(t, self._known(t))

    def _values(self, t: Tensor, known: Known) -> Array:
        if known.values is None:  # a module's own parameter is not changed by a run
            known.values = t.detach().numpy() if _is_readable(t) else copied(t)
        return known.values

    @contextmanager
    def _ignoring(self) -> Iterator[None]:
        """Ignore the functions that are called meanwhile."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    # -- calls ---------------------------------------------------------------------------------------------------------

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call a function and list its steps; the functions that it calls itself are none."""
        name = name_of(func)
        if self._busy or name in NO_STEPS:
            return func(*args, **kwargs)
        with self._ignoring():
            try:
                return self._called(func, name, args, kwargs)
            finally:
                self._args = {}

    def _called(self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        given = list({id(t): t for t in tensors_in((args, kwargs))}.values())
        known = [self._known(t) for t in given]
        data = self._depends(name, known)
        if data:
            if changes_in_place(func, kwargs):
                self._args = {id(t): self.number(t) for t in given}
            else:
                self._args = {id(t): one.number for t, one in zip(given, known, strict=True) if one.number is not None}
        versions = [t._version for t in given]
        y = func(*args, **kwargs)
        changed = [t for t, version in zip(given, versions, strict=True) if t._version != version]
        self._uncounted = not changed
        changed = changed or written(func, args, kwargs)
        results = list({id(t): t for t in (*tensors_in(y), *changed)}.values())
        if not data:
            self._learn(name, known, results, set(map(id, changed)))
            return y
        if not results or func is Tensor.data.__set__:  # with another memory, by which the tensor is known
            return y
        if name in SAME and self._is_same(y, given[0], name):
            return y
        if isinstance(y, Tensor) and id(y) in self._args and not changed:
            y = y.view_as(y)  # the argument itself: it becomes a tensor of its own
            results = [y]
        schema = getattr(func, "_schema", None)
        names = () if schema is None else tuple(argument.name for argument in schema.arguments)
        if name in SAME:
            name = f"to {str(results[0].dtype).removeprefix('torch.')}"
        made = links(Call(name, args, kwargs, tuple(results), names, self._is_learnt))
        self._emit(name, made, set(map(id, changed)))
        return y

    def _depends(self, name: str, known: Sequence[Known]) -> bool:
        """Return whether a call is a step: the model's inputs reach it, or it is a layer."""
        if name in SHAPES:
            return False
        return any(one.data for one in known) or (self._frames[-1].layer and name in _LAYER_FUNCTIONS)

    def _learn(self, name: str, known: Sequence[Known], results: Sequence[Tensor], changed: set[int]) -> None:
        """Note results that no input reaches."""
        sources = () if name in SHAPES else tuple(dict.fromkeys(path for one in known for path in one.sources))
        for t in results:
            new = id(t) in changed
            if new or self._flow.find(t) is None:
                uncounted = new and self._uncounted
                self._flow.note(t, data=False, sources=sources, made=name, changed=new, uncounted=uncounted)

    def _is_same(self, y: Any, x: Tensor, name: str) -> bool:
        """Return whether a result has the values of the argument, and note it as the same tensor."""
        if not isinstance(y, Tensor) or y.dtype != x.dtype:
            return False
        if y is not x:
            self._flow.note(y, data=True, number=self._args[id(x)])
        return True

    def _is_learnt(self, t: Tensor) -> bool:
        known = self._flow.find(t)
        return known is None or not known.data

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _emit(self, name: str, made: Sequence[Link], changed: set[int]) -> None:
        """List the steps of one call of a function."""
        frame = self._frames[-1]
        main = next((link for link in made if isinstance(link.step, ConvSpec)), None)
        path = self._path_by_weight(made) if self._by_weight else ""
        if not path and main is not None:
            path = self._path_of_convolution(name, main)
        path = path or frame.path_of(name)
        for inner, link in zip(paths_of_links(path, made), made, strict=True):
            self._link(inner, name, link, changed)
            frame.own.append((len(self.steps) - 1, path))

    def _link(self, path: str, name: str, link: Link, changed: set[int]) -> None:
        reads = tuple(self._args[id(t)] if id(t) in self._args else self.number(t) for t in link.reads)
        arrays, sources = {}, {}
        for array, t in link.arrays.items():
            if t is not None:
                known = self._known(t)
                arrays[array], sources[array] = self._values(t, known), known.sources
        writes = tuple(self._write(t, changed=id(t) in changed) for t in link.writes)
        self._step(
            TracedStep(
                path, link.step, reads, writes, arrays, sources, name.lstrip("_"), link.layout, link.note, link.macs
            )
        )

    def _step(self, step: TracedStep) -> None:
        for frame in self._frames[:-1]:
            frame.inner = True
        self.steps.append(step)

    def _path_by_weight(self, made: Sequence[Link]) -> str:
        """Return the path of the module that has the first array of a call, or that of the array itself."""
        found = [t for link in made for t in link.arrays.values() if t is not None]
        source = next((path for t in found for path in self._known(t).sources), "")
        module, _, last = source.rpartition(".")
        return module if last in ("weight", "running_mean") and module else source

    def _path_of_convolution(self, name: str, link: Link) -> str:
        """Return the path that a convolution in code has among the model's parts."""
        weight, bias = link.arrays["kernel"], link.arrays["bias"]
        if weight is None or not isinstance(link.step, ConvSpec):
            return ""
        try:
            params = ConvParams(self._kept(weight), None if bias is None else self._kept(bias))
            reading = Reading(link.step, params, layouts.CHANNELS_FIRST, dtype_of(weight))
        except ConvspecError:  # of a dtype that parts cannot have
            return ""
        self._functions.stack[:] = [self._frames[-1].path]
        return self._functions._path(name, reading, NO_LAYER)

    # -- modules -------------------------------------------------------------------------------------------------------

    def enter(self, frame: Frame, args: Any) -> None:
        """Begin the call of a module."""
        if frame.whole is not None:
            if not self._busy:
                frame.given = tensors_in(args)
                frame.numbers = {id(t): self.number(t) for t in frame.given}
            self._busy += 1
        self._frames.append(frame)

    def leave(self, y: Any) -> None:
        """End the call of a module; one that is a single function has its steps renamed to the module's path."""
        frame = self._frames.pop()
        if frame.whole is None:
            if frame.is_one_function:
                self._rename(frame)
            return
        self._busy -= 1
        if self._busy:
            return
        with self._ignoring():
            self._args = frame.numbers
            results = [t for t in tensors_in(y) if self._flow.find(t) is None]
            made = frame.whole(frame.given, results) if results else ()
            for path, link in zip(paths_of_links(frame.path, made), made, strict=True):
                self._link(path, frame.kind, link, set())
            self._args = {}

    def _rename(self, frame: Frame) -> None:
        for i, path in frame.own:
            step = self.steps[i]
            if not isinstance(step.step, ConvSpec):  # it has the path that it has among the model's parts
                self.steps[i] = replace(step, path=frame.path + step.path.removeprefix(path), name=frame.kind)


def _is_readable(t: Tensor) -> bool:
    """Whether NumPy can read the memory of a parameter, in a dtype of its own."""
    plain = isinstance(t, nn.Parameter) and t.layout == strided and t.device.type == "cpu"
    return plain and t.dtype in (float16, float32, float64)


class FunctionsOf(TorchFunctionMode):  # type: ignore[misc]
    """Sends the functions that Python code calls to a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.recorder.call(func, args, kwargs or {})


class OperatorsOf(TorchDispatchMode):  # type: ignore[misc]
    """Sends operators to a recorder that run outside of a function in Python, such as those of TorchScript."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False, so that PyTorch does not import its compiler, which takes seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.recorder.call(func, args, kwargs or {})


# -- from calls to links -----------------------------------------------------------------------------------------------

TABLE = activations.TABLE | arithmetic.TABLE | layers.TABLE | moves.TABLE | pools.TABLE

SAME = frozenset((
    "contiguous", "detach", "clone", "alias", "data", "requires_grad", "positive", "pos", "cpu", "cuda", "to", "type",
    "type_as", "float", "double", "half", "bfloat16", "int", "long", "bool", "_to_copy", "lift", "lift_fresh",
    "lift_fresh_copy", "resolve_conj", "resolve_neg", "pin_memory", "as_subclass", "conj", "real",
))  # fmt: skip
"""Functions that give the same values, if the dtype stays the same."""

SHAPES = frozenset((
    "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty",
    "new_tensor", "rand_like", "randn_like", "randint_like", "new_empty_strided", "empty_strided",
))  # fmt: skip
"""Functions that take of a tensor its shape only."""

RANDOM = frozenset(("rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "randperm", "normal",
                    "bernoulli", "multinomial", "uniform", "exponential", "gumbel_softmax", "poisson"))  # fmt: skip
NO_STEPS = frozenset((
    "size", "dim", "numel", "nelement", "ndimension", "is_contiguous", "stride", "storage_offset", "len", "shape",
    "dtype", "device", "ndim", "is_floating_point", "is_complex", "element_size", "get_device", "is_cuda", "layout",
    "requires_grad", "is_leaf", "grad", "grad_fn", "is_quantized", "is_sparse", "is_meta", "is_inference",
    "is_same_size", "untyped_storage", "data_ptr", "_version", "has_names", "names", "is_cpu", "is_nested", "dim_order",
    "item", "tolist", "index", "repr", "format", "hash",
))  # fmt: skip
"""Functions whose result is no tensor."""


@lru_cache(1024)
def name_of(func: Callable[..., Any]) -> str:
    """Return the name without what marks a method, an operator or a change in place: ``add`` for ``+=``."""
    schema = getattr(func, "_schema", None)
    name = schema.name.rpartition("::")[2] if schema is not None else getattr(func, "__name__", type(func).__name__)
    if name in ("__get__", "__set__"):
        return str(getattr(func.__self__, "__name__", name))  # type: ignore[attr-defined]
    if name.startswith("__") and name.endswith("__"):
        bare = name[2:-2]
        return bare[1:] if bare in ("iadd", "isub", "imul", "itruediv", "idiv", "ipow", "imatmul") else bare
    return str(name[:-1] if name.endswith("_") and len(name) > 1 else name)


def changes_in_place(func: Callable[..., Any], kwargs: Any) -> bool:
    """Return whether a call says that it changes its first operand, which it may read before."""
    name = getattr(func, "__name__", "").partition(".")[0]
    method = name.endswith("_") and (not name.endswith("__") or name in ("__setitem__", "__set__"))
    return bool(method or kwargs.get("inplace"))


def written(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors that an operator changes by its schema; none for a function without one."""
    schema = getattr(func, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    given = dict(zip((argument.name for argument in schema.arguments), args, strict=False)) | dict(kwargs)
    names = [argument.name for argument in schema.arguments if argument.alias_info and argument.alias_info.is_write]
    return tensors_in([given.get(name) for name in names])


def links(call: Call) -> list[Link]:
    """Return the steps of a call; an unknown function, or settings without a word, are ``Other``."""
    build, note = TABLE.get(call.name), ""
    if build is not None and call.results:
        try:
            built = build(call)
            return [built] if isinstance(built, Link) else list(built)
        except (NoWord, NotKnown, ConvspecError) as error:
            note = str(error)
    kwargs = {key: value for key, value in call.kwargs.items() if key != "out"}
    reads = list({id(t): t for t in tensors_in((call.args, kwargs))}.values())
    macs = macs_of(call.name, call.args, kwargs)
    return [Link(Other(call.name.lstrip("_")), reads, call.results, note=note, macs=macs)]
