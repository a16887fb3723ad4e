"""Check an adapter against the contract before any case runs, in a child process that may crash or hang.

One function for each promise: those of ``STATIC`` need no framework, those of ``RUNNING`` build and run layers.
"""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np

from convspec import reference
from convspec.contract import Adapter, LayerRequest, Reading, Support, known_gaps, registry
from convspec.contract.isolation import ChildError, ChildProcess, encode, send
from convspec.errors import CallError, GapError, ShapeError, SpecError, UnknownName, UnsupportedError
from convspec.spec import (
    DIRECTIONS,
    DTYPES,
    Array,
    ComputePrecision,
    ConvParams,
    ConvSpec,
    Gradients,
    format_of,
    layouts,
    rounded,
)

PLAIN = ConvSpec(3, 4, (2, 3), stride=(2, 1), dilation=(1, 2))
SPECS = (
    PLAIN,
    ConvSpec(3, 4, (2, 3), stride=(2, 1), padding=((0, 1), (2, 1)), bias=False),
    ConvSpec(4, 6, (3,), stride=2, padding="same", groups=2),
    ConvSpec(2, 3, (2, 3), stride=(2, 3), transposed=True),
    ConvSpec(2, 3, (1, 2, 3), padding=(0, 1, 1), padding_mode="reflect"),
)
SHAPE = (2, 3, 7, 11)


class Broken(Exception):
    """A promise is broken; the message says how."""


@dataclass(frozen=True, slots=True)
class Promise:
    """One rule of the contract.

    Attributes:
        title: the rule in one sentence.
        rule: raises :class:`Broken` if an adapter breaks the promise.
        by_request: whether the rule also takes the name by which the adapter was requested.
    """

    id: str
    title: str
    rule: Callable[..., None]
    by_request: bool = False

    def check(self, adapter: Any, request: str) -> None:
        """Raise :class:`Broken` if the adapter, requested by the name ``request``, breaks the promise."""
        self.rule(*((adapter, request) if self.by_request else (adapter,)))


def demand(condition: object, reason: str) -> None:
    if not condition:
        raise Broken(reason)


def _check_light(adapter: Any, request: str) -> None:  # noqa: ARG001 – imported anew in a fresh process
    code = (
        "import sys\nfrom convspec.contract import registry\nfound = registry.adapter(sys.argv[1])\n"
        "print(*(m for m in (*found.requires, 'numpy') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, request], capture_output=True, text=True, check=False)
    demand(done.returncode == 0, f"it cannot be imported: {done.stderr.strip().splitlines()[-1:]}")
    demand(not done.stdout.strip(), f"importing the adapter imports {done.stdout.split()}: import that on first use")


def _check_members(adapter: Any) -> None:
    missing = [part for part in _members() if not hasattr(adapter, part)]
    demand(not missing, f"the adapter has no {', '.join(missing)}")
    for method in (part for part in _members() if callable(getattr(Adapter, part, None))):
        required = inspect.signature(getattr(Adapter, method)).parameters
        given = inspect.signature(getattr(adapter, method)).parameters
        keywords = any(p.kind is p.VAR_KEYWORD for p in given.values())
        missing = [p for p in list(required)[1:] if p not in given and not keywords]
        demand(not missing, f"{method} takes no {', '.join(missing)}")


def _members() -> list[str]:
    methods = [n for n, v in vars(Adapter).items() if callable(v) and not n.startswith("_")]
    return [*(n for n in Adapter.__annotations__ if not n.startswith("_")), *methods]


def _check_names(adapter: Any, request: str) -> None:
    base = request.partition(":")[0]
    if base in registry.adapters():
        demand(adapter.name == base, f"its name is {adapter.name!r}, but its entry point is {base!r}")
    for field, known in (("layouts", layouts.LAYOUTS), ("dtypes", DTYPES)):
        unknown = set(getattr(adapter, field)) - set(known)
        demand(not unknown, f"{field} has {sorted(unknown)}; known are {', '.join(known)}")
        demand(getattr(adapter, field), f"{field} must not be empty")
    demand(all(isinstance(r, str) for r in adapter.requires), "requires must be import names")
    demand(adapter.variant in adapter.variants, f"variant {adapter.variant!r} is not among {adapter.variants}")
    for variant in adapter.variants:
        demand(adapter.with_variant(variant).variant == variant, f"with_variant({variant!r}) gives another one")
    unknown = set(adapter.costly) - set(adapter.variants)
    demand(not unknown, f"costly has {sorted(unknown)}, which are no variants")
    try:
        adapter.with_variant("no such variant")
    except UnknownName:
        return
    raise Broken("with_variant accepts a variant that does not exist; UnknownName must be raised")


def _check_gaps(adapter: Any) -> None:
    try:
        known_gaps.parse(adapter.gaps(), f"{adapter.name}'s known_gaps.toml")
    except GapError as error:
        raise Broken(str(error)) from error


def _check_support(adapter: Any) -> None:
    for spec, layout, dtype in _combinations(adapter):
        support = adapter.support(spec, layout, dtype)
        demand(isinstance(support, Support), f"support gives {type(support).__name__}, not convspec.contract.Support")
        if support != "native":
            demand(support.reason, f"{support} without a reason for {spec!r}")
        try:
            plan = adapter.plan(spec, layout, dtype)
        except UnsupportedError as error:
            demand(support == "unsupported", f"support says {support}, but plan raises: {error} ({spec!r})")
        else:
            demand(support == plan.support, f"support says {support}, the plan {plan.support} ({spec!r})")
    demand(any(supported(adapter)), "no layer is supported")


def _check_source(adapter: Any) -> None:
    for spec, layout, dtype in _combinations(adapter):
        if adapter.support(spec, layout, dtype) == "unsupported":
            continue
        text = adapter.source(spec, layout, dtype)
        demand(text == adapter.plan(spec, layout, dtype).shown, f"source is not what the plan shows ({spec!r})")
        assigned = (node.targets for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Assign))
        names = {target.id for targets in assigned for target in targets if isinstance(target, ast.Name)}
        demand("layer" in names, f"the source does not define `layer` ({spec!r})")
        own = "convspec" in text
        demand(not own, f"the source imports convspec, which a user of the framework does not have ({spec!r})")


def _check_precision(adapter: Any) -> None:
    for dtype in adapter.dtypes:
        for direction in DIRECTIONS:
            request = LayerRequest(None, dtype, direction=direction, input_shape=SHAPE)
            precision = adapter.compute_precision(PLAIN, request)
            kind = type(precision).__name__
            demand(isinstance(precision, ComputePrecision), f"compute_precision returns {kind}, not ComputePrecision")
            accumulator = precision.accumulator
            demand(accumulator in DTYPES, f"accumulator {accumulator!r} is none of {', '.join(DTYPES)}")
            demand(precision.output_roundings >= 1, "a result is rounded at least once")


def _check_parse(adapter: Any) -> None:
    for text in ("no_such_layer(1, 2, 3)", "1 +", "__import__('os')"):
        try:
            adapter.parse(text)
        except (CallError, SpecError):
            continue
        raise Broken(f"parse accepts {text!r}; CallError must be raised")


def _combinations(adapter: Any) -> list[tuple[ConvSpec, str, str]]:
    return [(spec, layout, dtype) for spec in SPECS for layout in adapter.layouts for dtype in adapter.dtypes]


def supported(adapter: Any) -> list[tuple[ConvSpec, str, str]]:
    return [each for each in _combinations(adapter) if adapter.support(*each) != "unsupported"]


STATIC = (
    Promise("light", "importing the adapter imports neither its framework nor NumPy", _check_light, by_request=True),
    Promise(
        "complete", "the adapter has every member of convspec.contract.Adapter, with its arguments", _check_members
    ),
    Promise("named", "name, layouts, dtypes and variants are valid", _check_names, by_request=True),
    Promise("gaps", "its known gaps can be read", _check_gaps),
    Promise("support", "support and plan agree, with a reason unless the support is native", _check_support),
    Promise("source", "the source is what the plan shows, defines `layer` and does not import convspec", _check_source),
    Promise("precision", "compute_precision names the accumulator of every dtype and direction", _check_precision),
    Promise("parse", "text that is not a constructor of the framework is refused", _check_parse),
)


@dataclass(frozen=True, eq=False, slots=True)
class _Built:
    """A layer that the adapter supports, and its spec, weights, layout and dtype."""

    spec: ConvSpec
    params: ConvParams
    layout: str
    dtype: str
    layer: Any

    @classmethod
    def by(cls, adapter: Any, *, native: bool = False, dtype: str | None = None) -> _Built:
        """Build the first layer of ``SPECS`` that is supported; with ``native``, natively."""
        for spec, layout, kind in supported(adapter):
            if (native and adapter.support(spec, layout, kind) != "native") or (dtype or kind) != kind:
                continue
            params = ConvParams.random(spec, seed=3, dtype=kind)
            return cls(spec, params, layout, kind, adapter.build(spec, params, layout, kind))
        raise Broken(f"none of {len(SPECS)} ordinary layers is supported{' natively' * native}")

    def input(self) -> Array:
        """Return random input in the layer's layout, representable in its dtype."""
        shape = (2, self.spec.in_channels, *(7 + 4 * axis for axis in range(self.spec.ndim)))
        x = np.random.default_rng(5).standard_normal(shape)
        native = layouts.move_axes(rounded(x, self.dtype), "NCHW", self.layout)
        return np.ascontiguousarray(native).astype(format_of(self.dtype).carrier)


def _check_present(adapter: Any) -> None:
    demand("cpu" in adapter.devices() or adapter.devices(), "devices() is empty")
    demand(adapter.versions(), "versions() is empty: a report could not name the tested versions")


def _check_apply(adapter: Any) -> None:
    for dtype in adapter.dtypes:
        if not any(kind == dtype for _, _, kind in supported(adapter)):
            continue
        adapter.configure(dtype=dtype, threads=1)
        built = _Built.by(adapter, dtype=dtype)
        x = built.input()
        original = x.copy()
        y = adapter.apply(built.layer, x, built.layout)
        y64 = reference.conv(built.spec, built.params, layouts.move_axes(x, built.layout, "NC*"))
        expected = layouts.move_axes(y64, "NC*", built.layout)
        demand(isinstance(y, np.ndarray), f"apply gives {type(y).__name__}, not a NumPy array")
        demand(np.array_equal(x, original), "apply changes its input")
        demand(y.shape == expected.shape, f"the output has shape {y.shape}, expected {expected.shape} ({built.layout})")
        carrier = format_of(dtype).carrier
        demand(y.dtype == carrier, f"the output of a {dtype} layer is an array of {y.dtype}, expected {carrier}")


def _check_refuse(adapter: Any) -> None:
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


def _check_gradients(adapter: Any) -> None:
    built = _Built.by(adapter)
    x = built.input()
    try:
        y = adapter.apply(built.layer, x, built.layout)
        gradients = adapter.gradients(built.layer, x, np.ones_like(y), built.layout)
    except UnsupportedError as error:
        demand(str(error), "gradients are unsupported without a reason")
        return
    demand(isinstance(gradients, Gradients), f"gradients gives {type(gradients).__name__}, not Gradients")
    shape, canonical = gradients.input.shape, built.spec.kernel_shape
    demand(shape == x.shape, f"the gradient of the input has shape {shape}, expected {x.shape}")
    shape = gradients.kernel.shape
    demand(shape == canonical, f"the gradient of the kernel has shape {shape}, expected the canonical {canonical}")


def _check_owns(adapter: Any) -> None:
    built = _Built.by(adapter, native=True)
    demand(any(adapter.owns(base) for base in type(built.layer).__mro__), "owns() denies a layer that build made")
    demand(not adapter.owns(int), "owns() claims int")


def _check_read(adapter: Any) -> None:
    built = _Built.by(adapter, native=True)
    reading = adapter.read(built.layer)
    demand(isinstance(reading, Reading), f"read gives {type(reading).__name__}, not Reading")
    demand(reading.spec == built.spec, f"built from {built.spec!r}, read as {reading.spec!r}")
    demand(reading.layout == built.layout, f"built in {built.layout}, read as {reading.layout}")
    demand(np.array_equal(reading.params.kernel, built.params.kernel), "the kernel is not read back bit for bit")
    same = np.array_equal(_bias(reading.params), _bias(built.params))
    demand(same, "the bias is not read back bit for bit")


def _bias(params: ConvParams) -> Array:
    return np.zeros(0) if params.bias is None else params.bias


RUNNING = (
    Promise("present", "the framework is installed, with devices and versions", _check_present),
    Promise("apply", "a layer's output has the right shape and dtype, and its input is not changed", _check_apply),
    Promise("refuse", "an input that does not fit raises ShapeError", _check_refuse),
    Promise("gradients", "gradients are in canonical order, or unsupported with a reason", _check_gradients),
    Promise("owns", "the framework's layers are recognised, other objects are not", _check_owns),
    Promise("read", "a built layer is read back: spec, layout, weights bit for bit", _check_read),
)


TIMEOUT = 300.0


@dataclass(frozen=True, slots=True)
class Checked:
    """One promise and whether the adapter keeps it; None: not checked, with the reason."""

    id: str
    title: str
    kept: bool | None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def validate(name: str, timeout: float = TIMEOUT) -> list[Checked]:
    """Check an adapter against every promise of :class:`convspec.contract.protocol.Adapter`.

    Args:
        name: as for :func:`convspec.adapter`: that of an entry point, or ``"package.module:OBJECT"``.
        timeout: seconds for all promises together.

    Raises:
        UnknownName, RequestError: if no such adapter exists.
    """
    registry.adapter(name)
    checked: list[Checked] = []
    with ChildProcess(__name__) as child:
        child.send(name)
        try:
            for _, message in zip((*STATIC, *RUNNING), child.messages(timeout), strict=False):
                checked.append(Checked(**message))
        except ChildError as error:
            checked += (Checked(p.id, p.title, False, str(error)) for p in (*STATIC, *RUNNING)[len(checked) :])
    return checked


def serve(requests: BinaryIO, replies: int) -> None:
    """Check every promise of the adapter whose name is the request; one message for each."""
    name = json.loads(requests.readline())
    adapter = registry.adapter(name)
    absence = registry.absence(adapter)
    for promise in (*STATIC, *RUNNING):
        if promise in RUNNING and absence:
            checked = Checked(promise.id, promise.title, None, absence)
        else:
            checked = _check(promise, adapter, name)
        send(replies, encode(checked.to_dict()))


def _check(promise: Promise, adapter: Any, name: str) -> Checked:
    try:
        promise.check(adapter, name)
    except Broken as broken:
        return Checked(promise.id, promise.title, False, str(broken))
    except Exception as error:  # noqa: BLE001 – an adapter may raise anything, and the report names it
        place = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return Checked(promise.id, promise.title, False, f"{message} ({place.filename}:{place.lineno})")
    return Checked(promise.id, promise.title, True)
