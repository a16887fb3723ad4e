"""Declared limitations of adapters and of their frameworks: the tables of each package's ``known_gaps.toml``.

::

    [[gap]]
    id = "keras-bias-along-width"
    kind = "upstream"                  # todo: ours to do · upstream: theirs to fix · never: cannot be
    when = "layout == 'NCHW' and out_w == out_channels and bias"
    fails = ["disagree"]               # the verdicts that a matching case has
    match = "numbers"                  # optional: text in the reason, message or last words; "a.*b|c": a, then b; or c
    adapters = ["keras"]               # optional: all adapters of the package
    versions = "keras>=3.7, <4"        # optional: the gap exists only with these
    processor = "avx512f, !avx512_vnni"  # optional: only on processors with the first, and without the second
    reason = "the bias is added along the width where the output is as wide as it has channels"
    link = "https://github.com/keras-team/keras/pull/20386"

``when`` is an expression over the features of a case; see :mod:`convspec.contract.gap_expressions`. ``processor`` has
the Linux kernel's names; where they cannot be read, the processor counts as one without any. It is the processor of the
machine that starts a run, on a cluster too.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convspec.contract.gap_expressions import Predicate
from convspec.errors import GapError, printable

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from convspec.contract.protocol import Adapter

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
_OPTIONAL = ("match", "adapters", "versions", "processor", "link")


@dataclass(frozen=True, slots=True)
class Gap:
    """One declared limitation; its fields are the keys of its table."""

    id: str
    kind: str
    when: Predicate
    fails: tuple[str, ...]
    reason: str
    match: str = ""
    adapters: tuple[str, ...] = ()
    versions: str = ""
    processor: str = ""
    link: str = ""

    def covers(self, verdict: str, reason: str) -> bool:
        """Return whether the gap declares this verdict and reason of a matching case."""
        return verdict in self.fails and any(_in_order(texts, reason) for texts in _alternatives(self.match))

    def to_dict(self) -> dict[str, Any]:
        """The table that declares it, which :func:`from_tables` reads."""
        table = {entry.name: getattr(self, entry.name) for entry in fields(self)} | {"when": self.when.text}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in table.items() if value}


def parse(text: str, origin: str) -> tuple[Gap, ...]:
    """The gaps of a ``known_gaps.toml``; ``origin`` names it in messages.

    Raises:
        GapError: naming the file, the gap and the error.
    """
    import tomllib

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise GapError(f"{origin} is no TOML: {error}") from None
    tables = data.get("gap", [])
    if set(data) - {"gap"} or not isinstance(tables, list):
        raise GapError(f"{origin} must contain [[gap]] tables and nothing else")
    return from_tables(tables, origin)


def from_tables(tables: Iterable[Mapping[str, Any]], origin: str) -> tuple[Gap, ...]:
    """The gaps that the tables declare; ``origin`` names their source in messages.

    Raises:
        GapError: naming the source, the gap and the error.
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
        _alternatives(table.get("match", ""))
        _requirement(table.get("versions", ""))
        _processor(table.get("processor", ""))
    except GapError as error:
        raise GapError(f"{where}: {error}") from None
    words = {
        key: table[key] for key in ("id", "kind", "reason", "match", "versions", "processor", "link") if key in table
    }
    return Gap(when=when, fails=tuple(table["fails"]), adapters=tuple(table.get("adapters", ())), **words)


_TOKENS = re.compile(r"\\\W|\.\*|\||[^\\.|*+?()\[\]{}^$]")


def _alternatives(match: str) -> list[list[str]]:
    """Return the texts of each alternative of a ``match``, in their order.

    It is a regular expression of few operators, as that of a file must not take forever.

    Raises:
        GapError: for any other operator.
    """
    alternatives, tokens = [[""]], _TOKENS.findall(match)
    if "".join(tokens) != match:
        raise GapError(rf"match={match!r} may have .* and |; write \ before each other sign of a regular expression")
    for token in tokens:
        if token == "|":
            alternatives.append([""])
        elif token == ".*":
            alternatives[-1].append("")
        else:
            alternatives[-1][-1] += token[-1]
    return alternatives


def _in_order(texts: Iterable[str], whole: str) -> bool:
    """Return whether a text contains others, one after the other."""
    at = 0
    for text in texts:
        at = whole.find(text, at)
        if at < 0:
            return False
        at += len(text)
    return True


def declared(adapter: Adapter) -> tuple[Gap, ...]:
    """All gaps of an adapter's package that name this adapter, whatever its framework's version.

    Raises:
        GapError: if the file cannot be read or is malformed.
    """
    origin = f"known gaps of adapter {adapter.name!r}"
    try:
        text = adapter.gaps()
    except Exception as error:  # an adapter may raise anything
        raise GapError(f"{origin} cannot be read: {type(error).__name__}: {printable(error)}") from error
    if not isinstance(text, str):
        raise GapError(f"{origin} must be text, got {printable(repr(text), 80)}")
    gaps = parse(text, origin)
    return tuple(gap for gap in gaps if not gap.adapters or adapter.name in gap.adapters)


def applying(
    adapter: Adapter, versions: Mapping[str, str], processor: Collection[str] | None = None
) -> tuple[Gap, ...]:
    """Return the declared gaps that exist with these versions (distribution → version) on this processor.

    Args:
        adapter: whose gaps.
        versions: those that the adapter reports.
        processor: names of what the processor can do; default: of this machine's.

    Raises:
        GapError: as :func:`declared`, and if a gap names a distribution that the adapter does not report.
    """
    found = processor_features() if processor is None else processor
    return tuple(gap for gap in declared(adapter) if _applies(gap, versions) and _has(found, gap.processor))


@functools.cache
def processor_features() -> frozenset[str]:
    """Return what this machine's processor can do, by the Linux kernel's names; empty where they cannot be read."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        return frozenset()
    return frozenset(name for line in re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.M) for name in line.split())


def _has(features: Collection[str], wanted: str) -> bool:
    return all((name.removeprefix("!") in features) is not name.startswith("!") for name in _processor(wanted))


def _processor(text: str) -> list[str]:
    """Return the names in ``"avx512f, !avx512_vnni"``. Raises GapError where the text cannot be read."""
    names = [name.strip() for name in text.split(",")] if text else []
    if not all(re.fullmatch(r"!?[a-z0-9_]+", name) for name in names):
        raise GapError(f"processor={text!r} must read like 'avx512f, !avx512_vnni'")
    return names


def _applies(gap: Gap, versions: Mapping[str, str]) -> bool:
    requirement = _requirement(gap.versions)
    if requirement is None:
        return True
    if requirement.name not in versions:
        reported = ", ".join(versions) or "none"
        raise GapError(f"gap {gap.id!r}: versions names {requirement.name!r}, but the adapter reports {reported}")
    return requirement.specifier.contains(versions[requirement.name], prereleases=True)


def _requirement(text: str) -> Requirement | None:
    """``"keras>=3.6, <4"``; None for nothing. Raises GapError where the text cannot be read."""
    from packaging.requirements import InvalidRequirement, Requirement

    if not text:
        return None
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        requirement = None
    if requirement is None or not requirement.specifier or requirement.extras or requirement.marker or requirement.url:
        raise GapError(f"versions={text!r} must read like 'keras>=3.6, <4'")
    return requirement
