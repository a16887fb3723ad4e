"""The command ``adapters``: list, validate or create adapters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convspec.cli.console import console, write_json
from convspec.cli.options import JsonOption, option
from convspec.contract import Gap, applying, create, registry
from convspec.errors import ConvspecError, printable
from convspec.spec import ConvSpec

if TYPE_CHECKING:
    from rich.console import Console

    from convspec.contract import Adapter

_MARKS = {True: ("kept", "green"), False: ("BROKEN", "bold red"), None: ("skipped", "yellow")}


def adapters(
    gaps: Annotated[bool, option("List the declared gaps of each adapter.", None, "--gaps")] = False,
    validate: Annotated[str | None, option("Check that an adapter keeps the adapter contract.", "NAME")] = None,
    new: Annotated[str | None, option("Create convspec-NAME/, a template for a new adapter.", "NAME")] = None,
    json: JsonOption = None,
) -> None:
    """List the adapters, their framework versions, and their declared support."""
    if new is not None:
        _create(new)
        return
    if validate is not None:
        _validate(validate, json)
    entries = [_Entry.of(name, adapter) for name, adapter in registry.importable().items()]
    entries += [_Entry(name, fault=fault, importable=False) for name, fault in registry.faults().items()]
    if not write_json(json, {"adapters": [entry.to_dict() for entry in entries]}):
        _show(entries, console(), gaps=gaps)


def _validate(name: str, json: str | None) -> None:
    """Print each promise of the contract and whether it is kept; exit with status 1 if one is not."""
    from rich.text import Text

    from convspec.conformance import validate

    promises = validate(name)
    if not write_json(json, {"adapter": name, "promises": [promise.to_dict() for promise in promises]}):
        shown = console()
        for promise in promises:
            mark, style = _MARKS[promise.kept]
            line = Text.assemble((f"{mark:9}", style), f"  {promise.id:10}  {promise.title}")
            shown.print(line, soft_wrap=True)
            if promise.reason:
                shown.print(Text(f"{'':23}{promise.reason}", style), soft_wrap=True)
        counts = Counter(promise.kept for promise in promises)
        shown.print(f"{counts[True]} promises kept, {counts[False]} broken, {counts[None]} skipped", style="bold")
    raise typer.Exit(0 if all(promise.kept for promise in promises) else 1)


def _create(name: str) -> None:
    """Write the package of a new adapter, and print the next step."""
    from rich.text import Text

    written = create(name)
    shown = console()
    for path in written:
        shown.print(Text(str(path)), soft_wrap=True)
    shown.print(Text(f"next: pip install -e {written[0].parts[0]} && convspec adapters --validate {name}", "bold"))


@dataclass(frozen=True, slots=True)
class _Entry:
    """Facts on an adapter that need no import of its framework."""

    name: str
    absence: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    layouts: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    costly: Mapping[str, str] = field(default_factory=dict)  # with the reason where one cannot run here
    gaps: tuple[Gap, ...] = ()
    fault: str | None = None
    importable: bool = True

    @classmethod
    def of(cls, name: str, adapter: Adapter) -> _Entry:
        found = cls(name, registry.absence(adapter), {}, adapter.layouts, adapter.dtypes, adapter.variants)
        try:
            found = replace(found, versions=registry.versions(adapter), costly=_costly(adapter))
            return found if found.absence else replace(found, gaps=applying(adapter, found.versions))
        except (ConvspecError, OSError) as error:
            return replace(found, fault=str(error))
        except Exception as error:  # noqa: BLE001 – an adapter may raise anything
            return replace(found, fault=f"{type(error).__name__}: {printable(error)}")

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name, "present": self.importable and self.absence is None, "absence": self.absence,
            "versions": self.versions, "layouts": self.layouts, "dtypes": self.dtypes, "variants": self.variants,
            "costly": self.costly, "fault": self.fault,
            "gaps": [
                {"id": gap.id, "kind": gap.kind, "when": gap.when.text, "fails": gap.fails, "versions": gap.versions,
                 "reason": gap.reason, "link": gap.link}
                for gap in self.gaps
            ],
        }  # fmt: skip


def _costly(adapter: Adapter) -> dict[str, str]:
    """Return the costly variants, each with the reason why it computes no plain layer here, else empty."""
    layer = ConvSpec(2, 2, (3, 3))
    supports = {name: adapter.with_variant(name).support(layer, adapter.native_layout) for name in adapter.costly}
    return {name: support.reason if support == "unsupported" else "" for name, support in supports.items()}


def _show(entries: list[_Entry], console: Console, *, gaps: bool) -> None:
    """Print the table, with ``gaps`` the declared gaps of each adapter too."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("adapter", "framework", "dtypes", "variants", "gaps"):
        table.add_column(title)
    for entry in entries:
        state = Text(entry.absence or ", ".join(f"{n} {v}" for n, v in entry.versions.items()), "green")
        if entry.absence:
            state.style = "yellow"
        if not entry.importable:
            state = Text("cannot be imported", "red")
        variants = ", ".join(entry.variants) if len(entry.variants) > 1 else ""
        table.add_row(Text(entry.name), state, ", ".join(entry.dtypes), variants, str(len(entry.gaps) or ""))
    console.print(table)
    for entry in entries:
        for variant, reason in entry.costly.items():
            said = f"cannot run here: {reason}" if reason else "runs only where it is named, as it takes long"
            console.print(Text(f"{entry.name}:{variant} {said}", "yellow" if reason else ""), soft_wrap=True)
        if entry.fault:
            text = entry.fault if not entry.importable else f"{entry.name}: {entry.fault}"
            console.print(Text(f"\n{text}", "red"), soft_wrap=True)
        for gap in entry.gaps if gaps else ():
            lines = [f"\n{entry.name}: {gap.id} ({gap.kind}{', ' + gap.versions if gap.versions else ''})"]
            lines += [f"  when   {gap.when.text}", f"  fails  {', '.join(gap.fails)}", f"  reason {gap.reason}"]
            lines += [f"  link   {gap.link}"] if gap.link else []
            console.print(Text("\n".join(lines)), soft_wrap=True)
