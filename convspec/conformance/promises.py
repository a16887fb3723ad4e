"""What an adapter promises, one small function each: they raise :class:`Broken` with the reason, or return.

Those of ``STATIC`` need no framework; those of ``RUNNING`` build and call a layer. The layers are small, and differ
along every axis.
"""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec import gaps, layouts, reference, registry
from convspec.contract import DIRECTIONS, Adapter, Arithmetic, Gradients, Reading
from convspec.dtypes import DTYPES, format_of, rounded
from convspec.errors import CallError, GapError, ShapeError, SpecError, UnknownName, UnsupportedError
from convspec.parameters import ConvParams
from convspec.plan import Support
from convspec.spec import ConvSpec

if TYPE_CHECKING:
    from convspec.parameters import Array

PLAIN = ConvSpec(3, 4, (2, 3), stride=(2, 1), dilation=(1, 2))
SPECS = (
    PLAIN,
    ConvSpec(3, 4, (2, 3), stride=(2, 1), padding=((0, 1), (2, 1)), bias=False),
    ConvSpec(4, 6, (3,), stride=2, padding="same", groups=2),
    ConvSpec(2, 3, (2, 3), stride=(2, 3), transposed=True),
    ConvSpec(2, 3, (1, 2, 3), padding=(0, 1, 1), padding_mode="reflect"),
)
SHAPE = (2, 3, 7, 11)


class Broken(Exception):  # noqa: N818 – what it says is that a promise is broken
    """A promise is not kept; the message says which and how."""


@dataclass(frozen=True, slots=True)
class Promise:
    """One rule of the contract.

    Attributes:
        title: the rule in one sentence.
        kept: raises :class:`Broken` where an adapter breaks it; given the adapter and the name it was found by.
    """

    id: str
    title: str
    kept: Callable[[Any, str], None]


def _demand(condition: object, reason: str) -> None:
    if not condition:
        raise Broken(reason)


# -- without the framework ---------------------------------------------------------------------------------------------


def _light(adapter: Any, name: str) -> None:
    code = (
        "import sys\nfrom convspec import registry\nfound = registry.adapter(sys.argv[1])\n"
        "print(*(m for m in (*found.requires, 'numpy') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, name], capture_output=True, text=True, check=False)
    _demand(done.returncode == 0, f"it cannot be imported: {done.stderr.strip().splitlines()[-1:]}")
    _demand(not done.stdout.strip(), f"importing the adapter imports {done.stdout.split()}: import it on first use")


def _complete(adapter: Any, name: str) -> None:
    missing = [part for part in _members() if not hasattr(adapter, part)]
    _demand(not missing, f"the adapter has no {', '.join(missing)}")
    for method in (part for part in _members() if callable(getattr(Adapter, part, None))):
        wanted = inspect.signature(getattr(Adapter, method)).parameters
        given = inspect.signature(getattr(adapter, method)).parameters
        keywords = any(p.kind is p.VAR_KEYWORD for p in given.values())
        lacking = [p for p in list(wanted)[1:] if p not in given and not keywords]
        _demand(not lacking, f"{method} takes no {', '.join(lacking)}")


def _members() -> list[str]:
    methods = [n for n, v in vars(Adapter).items() if callable(v) and not n.startswith("_")]
    return [*(n for n in Adapter.__annotations__ if not n.startswith("_")), *methods]


def _named(adapter: Any, name: str) -> None:
    base = name.partition(":")[0]
    if base in registry.adapters():
        _demand(adapter.name == base, f"its name is {adapter.name!r}, but it was found as {base!r}")
    for field, known in (("layouts", layouts.LAYOUTS), ("dtypes", DTYPES)):
        strange = set(getattr(adapter, field)) - set(known)
        _demand(not strange, f"{field} has {sorted(strange)}; there are {', '.join(known)}")
        _demand(getattr(adapter, field), f"{field} must not be empty")
    _demand(all(isinstance(r, str) for r in adapter.requires), "requires must be import names")
    _demand(adapter.variant in adapter.variants, f"variant {adapter.variant!r} is not among {adapter.variants}")
    for variant in adapter.variants:
        _demand(adapter.with_variant(variant).variant == variant, f"with_variant({variant!r}) gives another one")
    try:
        adapter.with_variant("no such variant")
    except UnknownName:
        return
    raise Broken("with_variant accepts a variant that does not exist; UnknownName must be raised")


def _gaps(adapter: Any, name: str) -> None:
    try:
        gaps.parse(adapter.gaps(), f"{adapter.name}'s known_gaps.toml")
    except GapError as error:
        raise Broken(str(error)) from error


def _supported(adapter: Any, name: str) -> None:
    for spec, layout, dtype in _each(adapter):
        support = adapter.support(spec, layout, dtype)
        _demand(isinstance(support, Support), f"support gives {type(support).__name__}, not convspec.plan.Support")
        if support != "native":
            _demand(support.reason, f"{support} without a reason for {spec!r}")
        try:
            plan = adapter.plan(spec, layout, dtype)
        except UnsupportedError as error:
            _demand(support == "unsupported", f"support says {support}, but plan raises: {error} ({spec!r})")
        else:
            _demand(support == plan.support, f"support says {support}, the plan {plan.support} ({spec!r})")
    _demand(any(_native(adapter)), "nothing at all is supported")


def _source(adapter: Any, name: str) -> None:
    for spec, layout, dtype in _each(adapter):
        if adapter.support(spec, layout, dtype) == "unsupported":
            continue
        text = adapter.source(spec, layout, dtype)
        _demand(text == adapter.plan(spec, layout, dtype).text, f"source is not the plan's text ({spec!r})")
        names = {
            target.id
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        _demand("layer" in names, f"the source does not define `layer` ({spec!r})")
        _demand("convspec" not in text, f"the source needs convspec: a user of the framework has it not ({spec!r})")


def _arithmetic(adapter: Any, name: str) -> None:
    for dtype in adapter.dtypes:
        for direction in DIRECTIONS:
            found = adapter.arithmetic(PLAIN, dtype, direction=direction, input_shape=SHAPE)
            _demand(isinstance(found, Arithmetic), f"arithmetic gives {type(found).__name__}, not Arithmetic")
            _demand(found.accumulator in DTYPES, f"accumulator {found.accumulator!r} is none of {', '.join(DTYPES)}")
            _demand(found.output_roundings >= 1, "a result is rounded at least once")


def _parsed(adapter: Any, name: str) -> None:
    for text in ("no_such_layer(1, 2, 3)", "1 +", "__import__('os')"):
        try:
            adapter.parse(text)
        except (CallError, SpecError):
            continue
        raise Broken(f"parse accepts {text!r}; CallError must be raised")


def _each(adapter: Any) -> list[tuple[ConvSpec, str, str]]:
    return [(spec, layout, dtype) for spec in SPECS for layout in adapter.layouts for dtype in adapter.dtypes]


def _native(adapter: Any) -> list[tuple[ConvSpec, str, str]]:
    return [each for each in _each(adapter) if adapter.support(*each) != "unsupported"]


# -- with the framework ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class _Built:
    """A layer that the adapter supports, with what it was built from."""

    spec: ConvSpec
    params: ConvParams
    layout: str
    dtype: str
    layer: Any

    @classmethod
    def by(cls, adapter: Any, *, native: bool = False, dtype: str | None = None) -> _Built:
        """The first layer of ``SPECS`` that is supported, natively where it is so asked."""
        for spec, layout, kind in _native(adapter):
            if (native and adapter.support(spec, layout, kind) != "native") or (dtype or kind) != kind:
                continue
            params = ConvParams.random(spec, seed=3, dtype=kind)
            return cls(spec, params, layout, kind, adapter.build(spec, params, layout, kind))
        raise Broken(f"no {'native ' * native}layer of {len(SPECS)} plain ones is supported")

    def input(self) -> Array:
        """``(N, C, *spatial)`` moved into the layer's layout, representable in its dtype."""
        shape = (2, self.spec.in_channels, *(7 + 4 * axis for axis in range(self.spec.ndim)))
        x = np.random.default_rng(5).standard_normal(shape)
        return np.ascontiguousarray(_moved(rounded(x, self.dtype), "NC*", self.layout, self.spec.ndim)).astype(
            format_of(self.dtype).carrier
        )


def _moved(x: Array, source: str, target: str, ndim: int) -> Array:
    orders = [o if o == "NC*" else layouts.order(o, ndim) for o in (source, target)]
    return np.transpose(x, layouts.permutation(*orders, ndim))


def _there(adapter: Any, name: str) -> None:
    _demand("cpu" in adapter.devices() or adapter.devices(), "devices() names no device")
    _demand(adapter.versions(), "versions() names no distribution: a report could not say what was tested")


def _applied(adapter: Any, name: str) -> None:
    for dtype in adapter.dtypes:
        if not any(kind == dtype for _, _, kind in _native(adapter)):
            continue
        built = _Built.by(adapter, dtype=dtype)
        x = built.input()
        kept = x.copy()
        y = adapter.apply(built.layer, x, built.layout)
        right = _moved(
            reference.conv(built.spec, built.params, _moved(x, built.layout, "NC*", built.spec.ndim)),
            "NC*", built.layout, built.spec.ndim,
        )  # fmt: skip
        _demand(isinstance(y, np.ndarray), f"apply gives {type(y).__name__}, not a NumPy array")
        _demand(np.array_equal(x, kept), "apply changes its input")
        _demand(y.shape == right.shape, f"the output has shape {y.shape} where {right.shape} is right ({built.layout})")
        carrier = format_of(dtype).carrier
        _demand(y.dtype == carrier, f"the output of a {dtype} layer is {y.dtype}; it must travel as {carrier}")


def _refused(adapter: Any, name: str) -> None:
    built = _Built.by(adapter)
    x = built.input()
    for wrong, what in ((x[0], "one axis too few"), (np.concatenate([x, x], _channels(built)), "twice the channels")):
        try:
            adapter.apply(built.layer, wrong, built.layout)
        except ShapeError:
            continue
        raise Broken(f"an input with {what} is accepted; ShapeError must be raised")


def _channels(built: _Built) -> int:
    return 1 if built.layout == "NCHW" else -1


def _gradients(adapter: Any, name: str) -> None:
    built = _Built.by(adapter)
    x = built.input()
    try:
        y = adapter.apply(built.layer, x, built.layout)
        found = adapter.gradients(built.layer, x, np.ones_like(y), built.layout)
    except UnsupportedError as error:
        _demand(str(error), "gradients are unsupported without a reason")
        return
    _demand(isinstance(found, Gradients), f"gradients gives {type(found).__name__}, not Gradients")
    _demand(found.input.shape == x.shape, f"that of the input has shape {found.input.shape}, the input {x.shape}")
    shapes = found.kernel.shape, built.spec.kernel_shape
    _demand(shapes[0] == shapes[1], f"that of the kernel has shape {shapes[0]} where {shapes[1]} is canonical")


def _owned(adapter: Any, name: str) -> None:
    built = _Built.by(adapter, native=True)
    _demand(any(adapter.owns(base) for base in type(built.layer).__mro__), "owns() denies a layer that build made")
    _demand(not adapter.owns(int), "owns() claims int")


def _read(adapter: Any, name: str) -> None:
    built = _Built.by(adapter, native=True)
    reading = adapter.read(built.layer)
    _demand(isinstance(reading, Reading), f"read gives {type(reading).__name__}, not Reading")
    _demand(reading.spec == built.spec, f"built from {built.spec!r}, read as {reading.spec!r}")
    _demand(reading.layout == built.layout, f"built in {built.layout}, read as {reading.layout}")
    _demand(np.array_equal(reading.params.kernel, built.params.kernel), "the kernel is not read back bit for bit")
    same = np.array_equal(_bias(reading.params), _bias(built.params))
    _demand(same, "the bias is not read back bit for bit")


def _bias(params: ConvParams) -> Array:
    return np.zeros(0) if params.bias is None else params.bias


STATIC = (
    Promise("light", "importing the adapter imports neither its framework nor NumPy", _light),
    Promise("complete", "it has every member of convspec.contract.Adapter, with its arguments", _complete),
    Promise("named", "name, layouts, dtypes and variants are what they must be", _named),
    Promise("gaps", "its declared gaps can be read", _gaps),
    Promise("support", "support and plan say the same, with a reason where it is not native", _supported),
    Promise("source", "the source is the plan's text, defines `layer` and does without convspec", _source),
    Promise("arithmetic", "arithmetic names the accumulator of every dtype and direction", _arithmetic),
    Promise("parse", "what is no constructor of the framework is refused", _parsed),
)
RUNNING = (
    Promise("present", "the framework is there, with devices and versions", _there),
    Promise("apply", "a layer's output has the right shape and dtype, and its input is left alone", _applied),
    Promise("refuse", "an input that does not fit is a ShapeError", _refused),
    Promise("gradients", "gradients come in canonical order, or are unsupported with the reason", _gradients),
    Promise("owns", "the framework's layers are known as such, other objects are not", _owned),
    Promise("read", "what was built is read back: spec, layout, weights bit for bit", _read),
)
