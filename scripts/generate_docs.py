"""Write the parts of the site that follow from the code: ``docs/_generated/``, at every build of the docs."""

from __future__ import annotations

import itertools
import sys
import textwrap
import tomllib
from collections import Counter
from functools import partial
from pathlib import Path

import grid
import site_calculator
import site_cheat_sheet
import site_commands
import site_divergences
import site_evidence
import site_frameworks
import site_messages
import site_networks
import site_parameters
import site_photos
import site_pictures
import site_schemas
import site_support
import site_widths

from convspec import adapter, adapters, corpora
from convspec.contract import PlanAdapter
from convspec.layers import constructor, translate
from convspec.spec import ConvSpec

FOLDER = Path(__file__).parents[1] / "docs" / "_generated"


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def variants(found: PlanAdapter) -> str:
    named = (f"{name} (where it is named)" if name in found.costly else name for name in found.variants)
    return ", ".join(named)


def adapter_table() -> str:
    rows: list[tuple[object, ...]] = []
    for name in adapters():
        found = adapter(name)
        if isinstance(found, PlanAdapter):
            needs = ", ".join(f"`{package}`" for package in found.distributions)
            rows.append((f"`{name}`", needs, found.native_layout, ", ".join(found.dtypes), variants(found)))
    return table(("adapter", "runs on", "own layout", "dtypes", "variants"), rows)


def gap_list() -> str:
    files = {found.gaps(): name for name in reversed(adapters()) if (found := adapter(name))}
    entries = []
    for text, first in sorted(files.items(), key=lambda item: item[1]):
        for gap in tomllib.loads(text).get("gap", ()):
            named = ", ".join(f"`{name}`" for name in gap.get("adapters", [f"{first}*"]))
            where = f" [Where it is reported]({gap['link']})." if gap.get("link") else ""
            condition = textwrap.indent(textwrap.dedent(gap["when"]).strip(), "  ")
            entries.append(
                f"`{gap['id']}` ({named}, {gap['kind']})\n: {gap['reason']}.{where}\n\n  ```text\n{condition}\n  ```\n"
            )
    return "\n".join(entries)


def corpus_table() -> str:
    rows: list[tuple[object, ...]] = []
    for name in corpora.names():
        cases = corpora.load(name)
        ranks = sorted({case.spec.ndim for case in cases})
        rows.append((f"`{name}`", f"{len(cases):,}", ", ".join(f"{rank}-D" for rank in ranks)))
    return table(("corpus", "cases", "ranks"), rows)


def direction_table() -> str:
    """From each framework's own layers to every other: native, composed, unsupported, and why."""
    names = ("torch", "flax", "keras", "onnx")
    specs = [case.spec for case in corpora.load("features")]
    supports = {name: [adapter(name).support(spec, adapter(name).native_layout) for spec in specs] for name in names}
    rows: list[tuple[object, ...]] = []
    reasons: Counter[str] = Counter()
    for source, target in itertools.permutations(names, 2):
        own = [spec for spec, support in zip(specs, supports[source], strict=True) if support == "native"]
        found = [translate(written(source, spec), target, spec.in_channels).support for spec in own]
        reasons.update(support.reason for support in found if support == "unsupported")
        counts = Counter(map(str, found))
        rows.append((f"`{source}`", f"`{target}`", len(own), *(counts[kind] for kind in _KINDS)))
    listing = "".join(f"* {count} unsupported: {reason}\n" for reason, count in reasons.most_common())
    return table(("from", "to", "own layers", *_KINDS), rows) + ("\n" + listing if listing else "")


def written(name: str, spec: ConvSpec) -> str:
    """The constructor of a framework's own layer, with the weight's shape where only that tells the channels."""
    found = adapter(name)
    call = constructor(found.source(spec, found.native_layout))
    return f"{call[:-1]}, W={spec.kernel_shape})" if name == "onnx" else call


_KINDS = ("native", "composed", "unsupported")


def mistake_list() -> str:
    """Every mistake that the diagnosis knows, by theme."""
    from convspec.diagnosis import INTEGER_THEMES, THEMES, catalogue

    parts = []
    known = (*catalogue(), *catalogue(integers=True))
    for theme in (*THEMES, *INTEGER_THEMES):
        kinds = [kind for kind in known if kind.theme == theme]
        intro = sys.modules[kinds[0].module].__doc__
        parts.append(f"## {theme.capitalize()}\n\n{intro}\n")
        for kind in kinds:
            links = ", ".join(f"[{site_messages.thread(link)}]({link})" for link in kind.evidence)
            parts.append(
                f"### {kind.title}\n\n`{kind.id}` · {', '.join(kind.frameworks)}\n\n"
                f"{kind.explanation}\n\n**Fix:** {kind.fix}\n\nSeen in {links}.\n"
            )
    return "\n".join(parts)


def write(file: Path, text: str) -> None:
    """Write a file only if its text has changed, so that Sphinx does not read the pages that include it again."""
    if not file.exists() or file.read_text("utf-8") != text:
        file.write_text(text, "utf-8")


def main() -> None:
    site_photos.STATIC.mkdir(parents=True, exist_ok=True)
    parts = {
        "adapters": adapter_table,
        "gaps": gap_list,
        "corpora": corpus_table,
        "directions": direction_table,
        "cli": partial(site_commands.reference, table),
    }
    parts["mistakes"] = mistake_list
    parts["mutation"] = partial(site_evidence.mutation_tables, table)
    parts["self_mutation"] = partial(site_evidence.self_mutation_tables, table)
    parts["bugs"] = partial(site_evidence.bug_tables, table)
    parts["versions"] = partial(site_evidence.version_tables, table)
    parts["support"] = partial(site_support.support_table, table)
    parts["pictures"] = site_pictures.listing
    parts["photos"] = site_photos.listing
    parts["widths"] = partial(site_widths.parts, table)
    parts["grid"] = grid.page
    parts["features-run"] = partial(site_support.run_tables, table)
    texts = {name: make() for name, make in parts.items()} | site_parameters.parts(FOLDER)
    texts |= site_frameworks.parts(table) | site_networks.parts(table) | site_schemas.parts(table)
    opening, others = site_calculator.built_answers()
    texts |= site_messages.parts() | site_cheat_sheet.parts(table)
    texts["divergences"] = f"```{{raw}} html\n{site_divergences.table()}```\n"
    files = {f"{name}.md": text for name, text in texts.items()}
    files |= {"calculator-built.html": opening, "static/calculator-answers.json": others}
    for name, text in files.items():
        write(FOLDER / name, text)


if __name__ == "__main__":
    main()
