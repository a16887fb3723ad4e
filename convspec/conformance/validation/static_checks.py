"""The promises of an adapter that can be checked without its framework, one function each."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from convspec.contract import Adapter, LayerRequest, Support, known_gaps, registry
from convspec.errors import CallError, GapError, SpecError, UnknownName, UnsupportedError
from convspec.spec import DIRECTIONS, DTYPES, ComputePrecision, ConvSpec, layouts

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
        demand(text == adapter.plan(spec, layout, dtype).text, f"source is not the plan's text ({spec!r})")
        names = {
            target.id
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        demand("layer" in names, f"the source does not define `layer` ({spec!r})")
        demand(
            "convspec" not in text,
            f"the source imports convspec, which a user of the framework does not have ({spec!r})",
        )


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
    Promise("source", "the source is the plan's text, defines `layer` and does not import convspec", _check_source),
    Promise("precision", "compute_precision names the accumulator of every dtype and direction", _check_precision),
    Promise("parse", "text that is not a constructor of the framework is refused", _check_parse),
)
