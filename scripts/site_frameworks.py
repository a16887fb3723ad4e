"""The generated parts of each framework's page: what its adapters declare and what its plans give."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import site_messages
from site_messages import EXPLAINED
from site_parameters import FRAMEWORKS, parameters

from convspec import ConvSpec, UnsupportedError, adapter, adapters
from convspec.contract import PlanAdapter
from convspec.layers import constructor, framework
from convspec.layers import kernel_orders as kernels
from convspec.spec import layouts

ROOT = Path(__file__).parents[1]
Table = Callable[[tuple[str, ...], list[tuple[object, ...]]], str]

KERNELS = {
    "1-D": ConvSpec(4, 6, (5,)),
    "2-D": ConvSpec(4, 6, (3, 5)),
    "3-D": ConvSpec(4, 6, (2, 3, 5)),
    "2-D in 2 groups": ConvSpec(4, 6, (3, 5), groups=2),
    "depthwise, 2 filters a channel": ConvSpec(4, 8, (3, 5), groups=4),
    "transposed": ConvSpec(4, 6, (3, 5), stride=2, transposed=True),
    "transposed in 2 groups": ConvSpec(4, 6, (3, 5), stride=2, groups=2, transposed=True),
}
PADDINGS = {
    "none": ConvSpec(3, 8, 3, stride=2),
    "as much on both sides": ConvSpec(3, 8, 3, stride=2, padding=1),
    "one side only": ConvSpec(3, 8, 3, stride=2, padding=((0, 1), (0, 1))),
    '`"same"` at stride 1': ConvSpec(3, 8, 3, padding="same"),
    '`"same"` with a stride': ConvSpec(3, 8, 3, stride=2, padding="same"),
    '`"same_lower"` with a stride': ConvSpec(3, 8, 3, stride=2, padding="same_lower"),
    '`"causal"`': ConvSpec(3, 8, (3,), padding="causal", dilation=2),
    "reflect": ConvSpec(3, 8, 3, padding=1, padding_mode="reflect"),
    "replicate": ConvSpec(3, 8, 3, padding=1, padding_mode="replicate"),
    "circular": ConvSpec(3, 8, 3, padding=1, padding_mode="circular"),
    "transposed, nothing cropped": ConvSpec(3, 8, 3, stride=2, transposed=True),
    "transposed, cropped on both sides": ConvSpec(3, 8, 3, stride=2, padding=1, transposed=True),
    "transposed, with output_padding": ConvSpec(3, 8, 3, stride=2, padding=1, output_padding=1, transposed=True),
    'transposed, `"same"`': ConvSpec(3, 8, 3, stride=2, padding="same", transposed=True),
}


def of(name: str) -> list[PlanAdapter]:
    """The adapters of a framework, its own first."""
    found = [adapter(one) for one in adapters() if framework(one) == name]
    return [one for one in found if isinstance(one, PlanAdapter)]


def declared(name: str, table: Table) -> str:
    rows: list[tuple[object, ...]] = [
        (f"`{one.name}`", ", ".join(f"`{package}`" for package in one.requires), one.native_layout,
         ", ".join(one.dtypes), ", ".join(f"`{variant}`" for variant in one.variants))
        for one in of(name)
    ]  # fmt: skip
    return table(("adapter", "needs", "own layout", "dtypes", "variants"), rows)


def names(name: str, table: Table) -> str:
    rows: list[tuple[object, ...]] = []
    for parameter, entry in parameters().items():
        if name not in entry:
            continue
        said = entry[name]
        rows.append((
            f"[`{parameter}`](../parameters/{parameter}.md)",
            f"`{said['name']}`" if "name" in said else said["words"], said.get("default", ""),
        ))  # fmt: skip
    return table(("in a ConvSpec", EXPLAINED.get(name, name), "default"), rows)


def kernel_orders(name: str, table: Table) -> str:
    own = of(name)[0]
    rows: list[tuple[object, ...]] = []
    for what, spec in KERNELS.items():
        try:
            text = own.source(spec, own.native_layout)
        except UnsupportedError as error:
            rows.append((what, str(error), "", ""))
            continue
        stored = kernels.of_plan(spec, name, text)
        flipped = "flipped" if stored.flipped else ""
        rows.append((what, f"`{stored.axes(spec)}`", f"`{stored.shape(spec)}`", flipped))
    return table(("layer, 4 channels in", "axes", "shape", ""), rows)


def padding_forms(name: str, table: Table) -> str:
    """What each form of padding takes in both layouts, and the constructor in the framework's own."""
    own = of(name)[0]
    rows: list[tuple[object, ...]] = []
    for what, spec in PADDINGS.items():
        kinds = [str(own.support(spec, layout)) for layout in layouts.LAYOUTS]
        text = "" if kinds[layouts.LAYOUTS.index(own.native_layout)] == "unsupported" else _short(own, spec)
        rows.append((what, *kinds, text))
    return table(("padding", *layouts.LAYOUTS, f"the constructor in {own.native_layout}"), rows)


def _short(own: PlanAdapter, spec: ConvSpec) -> str:
    call = constructor(own.source(spec, own.native_layout))
    call = re.sub(r", (rngs=[^,]*\(0\)|key=[^,]*\(0\))", "", call)
    return f"`{call}`" if call else ""


def gaps(name: str) -> str:
    entries = []
    for gap in tomllib.loads(of(name)[0].gaps()).get("gap", ()):
        link = f" ([where]({gap['link']}))" if gap.get("link") else ""
        entries.append(f"* `{gap['id']}`, {gap['kind']}: {gap['reason']}{link}")
    return "\n".join(entries) + "\n" if entries else "None.\n"


def divergences(name: str) -> str:
    entries = []
    for page in sorted((ROOT / "docs" / "divergences").glob("*.md")):
        text = page.read_text("utf-8")
        if text.startswith(f"---\nframework: {name}\n"):
            title = next(line for line in text.splitlines() if line.startswith("# "))
            entries.append(f"* [{title[2:]}](../../divergences/{page.name})")
    return "\n".join(entries) + "\n"


def messages(name: str) -> str:
    return "\n".join(f"* [{e['title']}](#{e['id']})" for e in site_messages.tables(name).get("error", ())) + "\n"


def parts(table: Table) -> dict[str, str]:
    """Every generated file of the frameworks' pages, by name without ending."""
    written = {}
    for name in dict.fromkeys([*FRAMEWORKS, *map(framework, adapters())]):
        for part, write in (
            ("declared", declared),
            ("names", names),
            ("kernels", kernel_orders),
            ("pads", padding_forms),
        ):
            written[f"framework-{name}-{part}"] = write(name, table)
        for part, listed in (("gaps", gaps), ("divergences", divergences), ("messages", messages)):
            written[f"framework-{name}-{part}"] = listed(name)
    return written
