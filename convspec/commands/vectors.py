"""``convspec vectors``: cases as ONNX's own backend tests, written and run."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from convspec.commands.console import JsonOption, console, reported
from convspec.errors import FrameworkAbsent, RequestError

app = typer.Typer(
    name="vectors", no_args_is_help=True, help="Cases as ONNX's own backend tests, outputs by the oracle."
)


def _vectors() -> Any:
    """The module that knows the format, which belongs to the adapter ``onnx``."""
    from convspec import registry

    adapter = registry.adapter("onnx")
    if absence := registry.absence(adapter):
        raise FrameworkAbsent(absence)
    return importlib.import_module(f"{getattr(adapter, 'package', 'convspec_onnx')}.vectors")


@app.command()
@reported
def export(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where the tests go, one folder each.")],
    corpus: Annotated[list[str], typer.Option(metavar="NAME|FILE|-", help="Cases; may be given several times.")],
    sample: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only N of the cases.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Default: each case's own.")] = None,
    data: Annotated[str | None, typer.Option(help="Kind of data; default: each case's own, exact integers.")] = None,
) -> None:
    """Write every case as `model.onnx` and `test_data_set_0/*.pb`, for any runtime in any language."""
    from convspec import corpora as library

    cases = list(dict.fromkeys(case for name in corpus for case in library.load(name)))
    cases = cases if sample is None else library.sample(cases, sample)
    changes = {key: value for key, value in (("dtype", dtype), ("data", data)) if value is not None}
    left_out = []
    written = 0
    for name, reason in _vectors().export([case.varied(**changes) for case in cases], Path(folder)):
        written += not reason
        if reason:
            left_out.append(f"{name}: {reason}")
    for line in left_out:
        console(stderr=True).print(f"left out: {line}", markup=False, soft_wrap=True)
    console().print(f"{written} tests in {folder}; {len(left_out)} cases left out", markup=False, soft_wrap=True)
    raise typer.Exit(0 if written else 1)


@app.command()
@reported
def run(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder of tests, or one with such folders below it.")],
    adapters: Annotated[str, typer.Option(metavar="A,B", help="Who computes the layers.")] = "onnx",
    json: JsonOption = None,
) -> None:
    """Hold the outputs in the files, and what adapters make of the layers, against the oracle."""
    from convspec.reports import document
    from convspec.reports.verified import plain

    if not Path(folder).is_dir():
        raise RequestError(f"{folder}: no such folder")
    document.writable(json)
    vectors = _vectors()
    names = [name.strip() for name in adapters.split(",") if name.strip()]
    found = [outcome for place in vectors.folders(Path(folder)) for outcome in vectors.run(place, names)]
    out = console(stderr=json == "-")
    for outcome in found:
        if outcome.verdict.verdict != "agree":
            text = f"{outcome.name}: {outcome.adapter}: {outcome.verdict.verdict}: {outcome.verdict.reason}"
            out.print(plain(text, 500), markup=False, soft_wrap=True)
    counts = Counter((o.adapter, o.verdict.verdict) for o in found)
    for (name, verdict), n in sorted(counts.items()):
        out.print(f"{name}: {n} {verdict}", markup=False)
    if json is not None:
        results = [{"name": o.name, "adapter": o.adapter, "verdict": o.verdict.verdict, "reason": o.verdict.reason,
                    "evidence": o.verdict.evidence} for o in found]  # fmt: skip
        document.write(document.dumps({"schema": "convspec.vectors/1", "results": results}), json)
    wrong = any(o.verdict.verdict not in ("agree", "unsupported") for o in found)
    raise typer.Exit(1 if wrong or not any(o.verdict.verdict == "agree" for o in found) else 0)
