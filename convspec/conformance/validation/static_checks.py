"""What an adapter promises of itself, which takes no framework to check; one small function each."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convspec.contract import Adapter, LayerRequest, Support, known_gaps, registry
from convspec.errors import CallError, GapError, SpecError, UnknownName, UnsupportedError
from convspec.spec import DIRECTIONS, DTYPES, ComputePrecision, ConvSpec, layouts

if TYPE_CHECKING:
    pass

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
    """A promise is not kept; the message says which and how."""


@dataclass(frozen=True, slots=True)
class Promise:
    """One rule of the contract.

    Attributes:
        title: the rule in one sentence.
        broken: raises :class:`Broken` where an adapter breaks it.
        by_request: whether that needs the name that the adapter was asked for by, too.
    """

    id: str
    title: str
    broken: Callable[..., None]
    by_request: bool = False

    def check(self, adapter: Any, request: str) -> None:
        """Raise :class:`Broken` where the adapter, found by the name ``request``, breaks the promise."""
        self.broken(*((adapter, request) if self.by_request else (adapter,)))


def demand(condition: object, reason: str) -> None:
    if not condition:
        raise Broken(reason)


def _light(adapter: Any, request: str) -> None:  # noqa: ARG001 – found anew, in a process of its own
    code = (
        "import sys\nfrom convspec.contract import registry\nfound = registry.adapter(sys.argv[1])\n"
        "print(*(m for m in (*found.requires, 'numpy') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, request], capture_output=True, text=True, check=False)
    demand(done.returncode == 0, f"it cannot be imported: {done.stderr.strip().splitlines()[-1:]}")
    demand(not done.stdout.strip(), f"importing the adapter imports {done.stdout.split()}: import it on first use")


def _complete(adapter: Any) -> None:
    missing = [part for part in _members() if not hasattr(adapter, part)]
    demand(not missing, f"the adapter has no {', '.join(missing)}")
    for method in (part for part in _members() if callable(getattr(Adapter, part, None))):
        wanted = inspect.signature(getattr(Adapter, method)).parameters
        given = inspect.signature(getattr(adapter, method)).parameters
        keywords = any(p.kind is p.VAR_KEYWORD for p in given.values())
        lacking = [p for p in list(wanted)[1:] if p not in given and not keywords]
        demand(not lacking, f"{method} takes no {', '.join(lacking)}")


def _members() -> list[str]:
    methods = [n for n, v in vars(Adapter).items() if callable(v) and not n.startswith("_")]
    return [*(n for n in Adapter.__annotations__ if not n.startswith("_")), *methods]


def _named(adapter: Any, request: str) -> None:
    base = request.partition(":")[0]
    if base in registry.adapters():
        demand(adapter.name == base, f"its name is {adapter.name!r}, but it was found as {base!r}")
    for field, known in (("layouts", layouts.LAYOUTS), ("dtypes", DTYPES)):
        strange = set(getattr(adapter, field)) - set(known)
        demand(not strange, f"{field} has {sorted(strange)}; there are {', '.join(known)}")
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


def _gaps(adapter: Any) -> None:
    try:
        known_gaps.parse(adapter.gaps(), f"{adapter.name}'s known_gaps.toml")
    except GapError as error:
        raise Broken(str(error)) from error


def _support(adapter: Any) -> None:
    for spec, layout, dtype in _each(adapter):
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
    demand(any(supported(adapter)), "nothing at all is supported")


def _source(adapter: Any) -> None:
    for spec, layout, dtype in _each(adapter):
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
        demand("convspec" not in text, f"the source needs convspec: a user of the framework has it not ({spec!r})")


def _precision(adapter: Any) -> None:
    for dtype in adapter.dtypes:
        for direction in DIRECTIONS:
            found = adapter.compute_precision(PLAIN, LayerRequest(None, dtype, direction=direction, input_shape=SHAPE))
            demand(
                isinstance(found, ComputePrecision),
                f"compute_precision returns {type(found).__name__}, not ComputePrecision",
            )
            demand(found.accumulator in DTYPES, f"accumulator {found.accumulator!r} is none of {', '.join(DTYPES)}")
            demand(found.output_roundings >= 1, "a result is rounded at least once")


def _parsed(adapter: Any) -> None:
    for text in ("no_such_layer(1, 2, 3)", "1 +", "__import__('os')"):
        try:
            adapter.parse(text)
        except (CallError, SpecError):
            continue
        raise Broken(f"parse accepts {text!r}; CallError must be raised")


def _each(adapter: Any) -> list[tuple[ConvSpec, str, str]]:
    return [(spec, layout, dtype) for spec in SPECS for layout in adapter.layouts for dtype in adapter.dtypes]


def supported(adapter: Any) -> list[tuple[ConvSpec, str, str]]:
    return [each for each in _each(adapter) if adapter.support(*each) != "unsupported"]


STATIC = (
    Promise("light", "importing the adapter imports neither its framework nor NumPy", _light, by_request=True),
    Promise("complete", "it has every member of convspec.contract.Adapter, with its arguments", _complete),
    Promise("named", "name, layouts, dtypes and variants are what they must be", _named, by_request=True),
    Promise("gaps", "its declared gaps can be read", _gaps),
    Promise("support", "support and plan say the same, with a reason where it is not native", _support),
    Promise("source", "the source is the plan's text, defines `layer` and does without convspec", _source),
    Promise("precision", "compute_precision names the accumulator of every dtype and direction", _precision),
    Promise("parse", "what is no constructor of the framework is refused", _parsed),
)
