"""The command ``gate``: run the checks that ``convspec.toml`` lists, with one table and one exit status."""

from __future__ import annotations

import contextlib
import json as json_module
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from convspec.cli.check import load_cases, signals_interrupt
from convspec.cli.console import console, print_lines, require_writable, write
from convspec.cli.options import JsonOption, JunitOption, MarkdownOption, option
from convspec.cli.verify import baseline_text, read_baseline
from convspec.errors import ConvspecError, RequestError, printable

EXAMPLES = """
Every check runs, even if one before it failed. Exit status 0: everything is right or accepted by the baseline; 1:
something is unexpected; 2: the file is malformed, or a check could not be run.

Examples:

    convspec gate

    convspec gate models/convspec.toml --markdown "$GITHUB_STEP_SUMMARY" --junit gate.xml --json gate.json

    convspec gate --write-baseline known.json
"""
Finding = tuple[str, str, str]  # node, id, title


@dataclass(frozen=True)
class Outcome:
    """The result of one check.

    Attributes:
        subject: the models, file or corpora.
        result: ``passed``, ``failed``, or ``error``: it could not be run.
        summary: the conclusion in one sentence, or the reason of an error.
        known: the findings that the baseline accepts.
    """

    name: str
    command: str
    subject: str
    result: str
    summary: str
    findings: tuple[Finding, ...] = ()
    known: frozenset[Finding] = frozenset()
    seconds: float = 0.0

    @property
    def unexpected(self) -> list[Finding]:
        return [finding for finding in self.findings if finding not in self.known]

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of the JSON document."""
        found = [{"node": f[0], "id": f[1], "title": f[2], "known": f in self.known} for f in self.findings]
        document = asdict(self) | {"findings": found, "seconds": round(self.seconds, 3)}
        del document["known"]
        return document


def gate(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="The file that lists the checks.")] = "convspec.toml",
    only: Annotated[list[str] | None, option("Run only the check of this name; may be repeated.", "NAME")] = None,
    baseline: Annotated[str | None, option("Accept the findings listed in FILE.", "FILE")] = None,
    write_baseline: Annotated[str | None, option("Write the current findings as a baseline.", "FILE")] = None,
    json: JsonOption = None,
    markdown: MarkdownOption = None,
    junit: JunitOption = None,
) -> None:  # fmt: skip
    """Run the comparisons, verifications and layer checks of a project: one table, one exit status, for CI."""
    from convspec.cli.reports import gate_files

    require_writable(json, markdown, junit, write_baseline)
    document, folder = read_file(Path(file)), Path(file).absolute().parent
    checks = [(name, entry) for name in _RUN for entry in document.get(name, ()) if not only or entry["name"] in only]
    _require_checks(file, [entry["name"] for _, entry in checks], only or [])
    if baseline is None and "baseline" in document and write_baseline is None:
        baseline = str(folder / document["baseline"])
    accepted, _ = read_baseline(baseline)
    with signals_interrupt(), contextlib.chdir(folder):
        outcomes = [_run(command, entry, accepted) for command, entry in checks]
    status = max(("passed", "failed", "error").index(one.result) for one in outcomes)
    found = {(f"{one.name}: {node}", kind) for one in outcomes for node, kind, _ in one.findings}
    ran = tuple(f"{one.name}: " for one in outcomes if one.result != "error")
    stale = sorted(f"{node}: {kind}" for node, kind in accepted - found if node.startswith(ran))
    taken = write(
        (markdown, lambda: gate_files.markdown(outcomes, stale)),
        (junit, lambda: gate_files.junit(file, outcomes)),
        (write_baseline, lambda: baseline_text(sorted(pair for pair in found if pair[1] not in _NEVER), {})),
        json=(json, lambda: gate_files.document(file, status, outcomes, stale)),
    )
    print_lines(gate_files.lines(outcomes, stale), console(stderr=taken))
    raise typer.Exit(0 if write_baseline is not None and status == 1 else status)


# -- the file ----------------------------------------------------------------------------------------------------------


def read_file(path: Path) -> dict[str, Any]:
    """Return the checks of a file, which fit the schema ``gate-file``.

    Raises:
        RequestError: if it cannot be read, naming the first entry that breaks a rule.
    """
    from convspec.conformance import JsonRules

    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise RequestError(f"cannot read {printable(path)}: {error.strerror or error}") from None
    except ValueError as error:  # TOML, or UTF-8
        raise RequestError(f"{printable(path)} is not a TOML file: {printable(error)}") from None
    rules = JsonRules(json_module.loads(files("convspec.cli").joinpath("gate-file.schema.json").read_text("utf-8")))
    if broken := rules.problem(document):
        raise RequestError(f"{printable(path)}: {broken}")
    names = [entry["name"] for command in _RUN for entry in document.get(command, ())]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RequestError(f"{printable(path)}: two checks have the name {printable(twice)!r}")
    return document


def _require_checks(file: str, names: list[str], only: list[str]) -> None:
    if missing := [name for name in only if name not in names]:
        raise RequestError(f"{printable(file)} has no check {printable(missing[0])!r}")
    if not names:
        raise RequestError(f"{printable(file)} lists no checks: add [[compare]], [[verify]] or [[check]]")


# -- the checks --------------------------------------------------------------------------------------------------------

Accepted = frozenset[tuple[str, str]]  # node, id
Answer = tuple[str, list[Finding]]  # the conclusion, and every finding
_NEVER = ("nothing-agreed",)  # findings that no baseline accepts


def _run(command: str, entry: Mapping[str, Any], accepted: Accepted) -> Outcome:
    """Run one check; whatever its models raise, the other checks run all the same."""
    began, prefix = time.monotonic(), f"{entry['name']}: "
    own = frozenset((node.removeprefix(prefix), kind) for node, kind in accepted if node.startswith(prefix))
    subject, run = _RUN[command]
    result, findings = "error", list[Finding]()
    try:
        summary, findings = run(entry, own)
        result = "passed"
    except ConvspecError as error:
        summary = str(error)
    except Exception as error:  # noqa: BLE001 – the project's own code
        summary = f"{type(error).__name__}: {error}"
    known = frozenset(finding for finding in findings if finding[:2] in own and finding[1] not in _NEVER)
    result = "failed" if set(findings) - known else result
    seconds = time.monotonic() - began
    return Outcome(entry["name"], command, subject(entry), result, summary, tuple(findings), known, seconds)


def _compare(entry: Mapping[str, Any], _: Accepted) -> Answer:
    from convspec.models import arguments, compare

    shapes = entry.get("shape", [])
    shapes = [shapes] if isinstance(shapes, str) else shapes
    seed = entry.get("seed", 0)
    inputs = arguments.load_inputs(entry.get("inputs"), shapes[0] if shapes else None, seed)
    further = [arguments.load_inputs(None, shape, seed) for shape in shapes[1:]]
    layouts = tuple(entry["layouts"].split(",")) if "layouts" in entry else (None, None)
    options = {key: entry[key] for key in ("seconds", "fold_pads", "one_input") if key in entry}
    a, b = (arguments.load_model(entry[side]) for side in ("a", "b"))
    found = compare(a, b, inputs=inputs, layouts=layouts, further=further, **options)
    if found.agrees:
        return f"results agree ({found.evidence})", []
    reason = found.divergence or found.unknown
    wrong = [row for row in found.rows if row.verdict in ("diverges", "missing", "input_differs")]
    findings = [(row.place, row.verdict, f"{row.reason}{_fix(row.diagnosis)}") for row in wrong]
    results = found.outcome.reason if found.outcome else reason
    return f"{found.verdict}: {reason}", [*findings, ("model", found.verdict, results)]


def _fix(diagnosis: Any) -> str:
    """Return the mistake that explains a layer's numbers and its fix, empty where none is known."""
    if diagnosis is None or not diagnosis.findings:
        return ""
    return f": {diagnosis.findings[0].title}: {diagnosis.findings[0].fix}"


def _verify(entry: Mapping[str, Any], accepted: Accepted) -> Answer:
    from convspec.models import arguments, text_table, verify

    options = {key: value for key, value in entry.items() if key not in ("name", "model", "against")}
    against = entry.get("against")
    source = None if against is None else arguments.load_model(against)
    report = verify(entry["model"], source, accepted=accepted, **options)
    return text_table.conclusion(report), report.problems()


def _check(entry: Mapping[str, Any], _: Accepted) -> Answer:
    from convspec.conformance import Result, check, conclusion
    from convspec.spec import DTYPES

    options = {key: value for key, value in entry.items() if key not in ("name", "corpus")}
    if options.get("dtypes") == ["all"]:
        options["dtypes"] = list(DTYPES)
    report = check(load_cases(entry.get("corpus", ["tutorial"]), None), **options)
    findings = [
        (f"{one.case.id} {one.subject}", one.verdict, str(one)) if isinstance(one, Result)
        else (one.adapter, f"gap {one.gap.id}", str(one)) for one in report.unexpected
    ]  # fmt: skip
    return conclusion(report), [*findings, *(("run", "unfinished", sentence) for sentence in report.missing)]


_RUN: dict[str, tuple[Callable[[Mapping[str, Any]], str], Callable[[Mapping[str, Any], Accepted], Answer]]] = {
    "compare": (lambda entry: f"{entry['a']} ↔ {entry['b']}", _compare),
    "verify": (lambda entry: " ← ".join([entry["model"], *filter(None, [entry.get("against")])]), _verify),
    "check": (lambda entry: ", ".join(entry.get("corpus", ["tutorial"])), _check),
}
