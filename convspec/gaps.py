"""Declared limitations of adapters and of their frameworks: the tables of each package's ``known_gaps.toml``.

::

    [[gap]]
    id = "keras-bias-along-width"
    kind = "upstream"                  # todo: ours to do · upstream: theirs to fix · never: cannot be
    when = "layout == 'NCHW' and out_w == out_channels and bias"
    fails = ["disagree"]               # the verdicts that a matching case has
    match = "numbers"                  # optional: a regular expression found in the reason, message or last words
    adapters = ["keras"]               # optional: all adapters of the package
    versions = "keras>=3.7, <4"        # optional: the gap is there only with these
    reason = "the bias is added along the width where the output is as wide as it has channels"
    link = "https://github.com/keras-team/keras/pull/20386"

``when`` is an expression over the features of a case; see :mod:`convspec.predicates`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from convspec import arithmetic, layouts
from convspec.errors import GapError, ShapeError
from convspec.predicates import Predicate
from convspec.versions import Requirement

if TYPE_CHECKING:
    from convspec.cases import Case
    from convspec.contract import Adapter

KINDS = ("todo", "upstream", "never")
FAILURES = ("disagree", "unsupported", "error", "crash", "timeout")
VECTORS = (
    "kernel_size", "stride", "dilation", "output_padding", "pad_before", "pad_after", "spatial", "out_spatial",
    "effective_kernel",
)  # fmt: skip
SCALARS = (
    "in_channels", "out_channels", "groups", "bias", "padding_mode", "padding", "transposed", "ndim", "batch",
    "in_w", "in_h", "in_d", "out_w", "out_h", "out_d", "depthwise", "multiplier", "empty_output",
    "layout", "dtype", "device", "data", "direction", "support", "adapter", "variant",
)  # fmt: skip
_REQUIRED = ("id", "kind", "when", "fails", "reason")
_OPTIONAL = ("match", "adapters", "versions", "link")


@dataclass(frozen=True, slots=True)
class Gap:
    """One declared limitation; the fields are those of its table."""

    id: str
    kind: str
    when: Predicate
    fails: tuple[str, ...]
    reason: str
    match: str = ""
    adapters: tuple[str, ...] = ()
    versions: str = ""
    link: str = ""

    def covers(self, verdict: str, reason: str) -> bool:
        """Whether a matching case that ended so is what the gap declares."""
        return verdict in self.fails and re.search(self.match, reason) is not None

    def to_dict(self) -> dict[str, Any]:
        """The table that declares it, which :func:`from_tables` reads."""
        table = {
            "id": self.id, "kind": self.kind, "when": self.when.text, "fails": list(self.fails), "reason": self.reason,
            "match": self.match, "adapters": list(self.adapters), "versions": self.versions, "link": self.link,
        }  # fmt: skip
        return {key: value for key, value in table.items() if value}


def parse(text: str, origin: str) -> tuple[Gap, ...]:
    """The gaps of a ``known_gaps.toml``; ``origin`` names it in messages.

    Raises:
        GapError: naming the file, the gap and what is wrong with it.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise GapError(f"{origin} is no TOML: {error}") from None
    tables = data.get("gap", [])
    if set(data) - {"gap"} or not isinstance(tables, list):
        raise GapError(f"{origin} must hold [[gap]] tables and nothing else")
    return from_tables(tables, origin)


def from_tables(tables: Iterable[Mapping[str, Any]], origin: str) -> tuple[Gap, ...]:
    """The gaps that the tables declare; ``origin`` names their source in messages.

    Raises:
        GapError: naming the source, the gap and what is wrong with it.
    """
    gaps = tuple(_gap(table, f"{origin}: gap {table.get('id', index)!r}") for index, table in enumerate(tables, 1))
    ids = [gap.id for gap in gaps]
    repeated = sorted({i for i in ids if ids.count(i) > 1})
    if repeated:
        raise GapError(f"{origin}: more than one gap has the id {repeated[0]!r}")
    return gaps


def _gap(table: Mapping[str, Any], where: str) -> Gap:
    for key in table:
        if key not in (*_REQUIRED, *_OPTIONAL):
            near = get_close_matches(key, (*_REQUIRED, *_OPTIONAL), n=1)
            raise GapError(f"{where}: unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    missing = [key for key in _REQUIRED if not table.get(key)]
    if missing:
        raise GapError(f"{where}: {', '.join(missing)} must be given")
    for key, value in table.items():
        wanted = list if key in ("fails", "adapters") else str
        if not isinstance(value, wanted) or (wanted is list and not all(isinstance(v, str) for v in value)):
            raise GapError(f"{where}: {key} must be a {'list of words' if wanted is list else 'text'}")
    if table["kind"] not in KINDS:
        raise GapError(f"{where}: kind={table['kind']!r} must be one of {', '.join(KINDS)}")
    strange = [verdict for verdict in table["fails"] if verdict not in FAILURES]
    if strange:
        raise GapError(f"{where}: fails={strange[0]!r} must be one of {', '.join(FAILURES)}")
    try:
        when = Predicate.parse(table["when"], SCALARS, VECTORS)
        re.compile(table.get("match", ""))
        Requirement.parse(table.get("versions", ""))
    except (GapError, re.error) as error:
        raise GapError(f"{where}: {error}") from None
    words = {key: table[key] for key in ("id", "kind", "reason", "match", "versions", "link") if key in table}
    return Gap(when=when, fails=tuple(table["fails"]), adapters=tuple(table.get("adapters", ())), **words)


def declared(adapter: Adapter) -> tuple[Gap, ...]:
    """All gaps of an adapter's package that name this adapter, whatever its framework's version.

    Raises:
        GapError: if the file is malformed, or names a distribution that the adapter does not report.
    """
    gaps = parse(adapter.gaps(), f"known gaps of adapter {adapter.name!r}")
    return tuple(gap for gap in gaps if not gap.adapters or adapter.name in gap.adapters)


def applying(adapter: Adapter, versions: Mapping[str, str]) -> tuple[Gap, ...]:
    """The declared gaps that are there with these versions (distribution → version)."""
    return tuple(gap for gap in declared(adapter) if Requirement.parse(gap.versions).met(versions, f"gap {gap.id!r}"))


# -- features --------------------------------------------------------------------------------------------------------


def features(case: Case, *, support: str, adapter: str, variant: str, direction: str = "forward") -> dict[str, Any]:
    """What ``when`` may ask of a case: the names in ``SCALARS`` and ``VECTORS``."""
    return {
        **_of_shape(case.spec, case.input_shape),
        "layout": layouts.family(case.layout, case.spec.ndim),
        "dtype": case.dtype,
        "device": case.device,
        "data": case.data,
        "direction": direction,
        "support": support,
        "adapter": adapter,
        "variant": variant,
    }


@lru_cache(maxsize=1024)
def _of_shape(spec: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    batch, _, *spatial = shape
    try:
        out = spec.output_shape(shape)
    except ShapeError:
        out = None
    pads = arithmetic.resolve_padding(spec, spatial)[0]
    names = ("kernel_size", "stride", "dilation", "output_padding", "in_channels", "out_channels", "groups", "bias",
             "padding_mode", "transposed", "ndim", "effective_kernel", "depthwise")  # fmt: skip
    return {
        **{name: getattr(spec, name) for name in names},
        **_sizes("in", spatial, spec.ndim),
        **_sizes("out", out[2:] if out else (), spec.ndim),
        "padding": spec.padding if isinstance(spec.padding, str) else "explicit",
        "pad_before": tuple(before for before, _ in pads),
        "pad_after": tuple(after for _, after in pads),
        "batch": batch,
        "spatial": tuple(spatial),
        "out_spatial": out[2:] if out else None,
        "multiplier": spec.out_channels // spec.groups if spec.depthwise else None,
        "empty_output": out is not None and 0 in out,
    }


def _sizes(prefix: str, spatial: Iterable[int], ndim: int) -> dict[str, int | None]:
    letters = layouts.spatial_letters(ndim).lower()
    sizes = dict(zip(letters, spatial, strict=False))
    return {f"{prefix}_{letter}": sizes.get(letter) for letter in "whd"}


# -- strictness over a run -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """How the cases that match one gap of one adapter ended.

    ``failed`` counts those that failed as declared, ``passed`` those that agreed; one that failed otherwise is
    unexpected by itself and counts in neither. ``whole`` is False where other cases of the run are elsewhere.
    """

    gap: Gap
    adapter: str
    failed: int = 0
    passed: int = 0
    example: dict[str, str] = field(default_factory=dict)
    whole: bool = True

    @property
    def status(self) -> str:
        """``"holds"``, ``"too wide"``, ``"closed"``, or ``"unmatched"`` where no case matched.

        ``"passing"`` is either of the second and third: which one, only the whole run shows.
        """
        if self.passed:
            return "too wide" if self.failed else "closed" if self.whole else "passing"
        return "holds" if self.failed else "unmatched"

    @property
    def unexpected(self) -> bool:
        return self.passed > 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "gap": self.gap.id, "adapter": self.adapter, "kind": self.gap.kind, "status": self.status,
            "failed": self.failed, "passed": self.passed, "passing_example": self.example or None,
            "when": self.gap.when.text, "reason": self.gap.reason, "link": self.gap.link or None,
        }  # fmt: skip


class Ledger:
    """Finds the gap behind each failure, and counts what the declared gaps are worth."""

    def __init__(self) -> None:
        self.tallies: dict[str, tuple[Tally, ...]] = {}

    def declare(self, adapter: str, gaps: Iterable[Gap]) -> None:
        """Take note of the gaps that apply to an adapter; the first call for each adapter counts."""
        if adapter not in self.tallies:
            self.tallies[adapter] = tuple(Tally(gap, adapter) for gap in gaps)

    def judge(
        self,
        case: Case,
        adapter: str,
        variant: str,
        support: str,
        verdict: str,
        reason: str,
        direction: str = "forward",
    ) -> str | None:
        """The id of the gap that declares this outcome, or None; every gap that matches the case is tallied."""
        covering = None
        seen = None
        for tally in self.tallies.get(adapter, ()):
            seen = seen or features(case, support=support, adapter=adapter, variant=variant, direction=direction)
            if not tally.gap.when(seen):
                continue
            if verdict == "agree":
                tally.passed += 1
                tally.example = tally.example or {
                    "case": case.id, "layout": case.layout, "dtype": case.dtype, "data": case.data,
                    "direction": direction,
                }  # fmt: skip
            elif tally.gap.covers(verdict, reason):
                tally.failed += 1
                covering = covering or tally.gap.id
        return covering

    def all(self) -> list[Tally]:
        """Every tally, in order of declaration."""
        return [tally for tallies in self.tallies.values() for tally in tallies]
