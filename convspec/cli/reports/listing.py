"""The table of adapters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from convspec.contract import Gap, applying, registry
from convspec.errors import GapError

if TYPE_CHECKING:
    from rich.console import Console

    from convspec.contract import Adapter


@dataclass(frozen=True, slots=True)
class Entry:
    """Facts on an adapter that need no import of its framework."""

    name: str
    absence: str | None
    versions: dict[str, str]
    layouts: tuple[str, ...]
    dtypes: tuple[str, ...]
    variants: tuple[str, ...]
    gaps: tuple[Gap, ...]
    fault: str | None = None

    @classmethod
    def of(cls, adapter: Adapter) -> Entry:
        versions, absence = adapter.versions(), registry.absence(adapter)
        gaps: tuple[Gap, ...] = ()
        fault = None
        if absence is None:
            try:
                gaps = applying(adapter, versions)
            except (GapError, OSError) as error:
                fault = str(error)
        facts = (adapter.layouts, adapter.dtypes, adapter.variants)
        return cls(adapter.name, absence, versions, *facts, gaps, fault)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name, "present": self.absence is None, "absence": self.absence, "versions": self.versions,
            "layouts": self.layouts, "dtypes": self.dtypes, "variants": self.variants, "fault": self.fault,
            "gaps": [
                {"id": gap.id, "kind": gap.kind, "when": gap.when.text, "fails": gap.fails, "versions": gap.versions,
                 "reason": gap.reason, "link": gap.link}
                for gap in self.gaps
            ],
        }  # fmt: skip


def show(entries: list[Entry], console: Console, *, gaps: bool) -> None:
    """Print the table, with ``gaps`` the declared gaps of each adapter too."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("adapter", "framework", "dtypes", "variants", "gaps"):
        table.add_column(title)
    for entry in entries:
        state = Text(entry.absence or ", ".join(f"{n} {v}" for n, v in entry.versions.items()))
        state.stylize("yellow" if entry.absence else "green")
        variants = ", ".join(entry.variants) if len(entry.variants) > 1 else ""
        table.add_row(entry.name, state, ", ".join(entry.dtypes), variants, str(len(entry.gaps) or ""))
    console.print(table)
    for entry in entries:
        if entry.fault:
            console.print(Text(f"\n{entry.name}: {entry.fault}", "red"), soft_wrap=True)
        for gap in entry.gaps if gaps else ():
            lines = [f"\n{entry.name}: {gap.id} ({gap.kind}{', ' + gap.versions if gap.versions else ''})"]
            lines += [f"  when   {gap.when.text}", f"  fails  {', '.join(gap.fails)}", f"  reason {gap.reason}"]
            lines += [f"  link   {gap.link}"] if gap.link else []
            console.print(Text("\n".join(lines)), soft_wrap=True)
