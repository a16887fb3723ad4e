"""``convspec vectors``: cases as ONNX's own backend tests, written and run."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from convspec.cli.console import JsonOption, console, reported
from convspec.errors import FrameworkAbsent, RequestError, printable

PATIENCE = 120.0  # seconds for one test

app = typer.Typer(
    name="vectors", no_args_is_help=True, help="Cases as ONNX's own backend tests, outputs by the oracle."
)


def _vectors() -> Any:
    """The module that knows the format, which belongs to the adapter ``onnx``."""
    from convspec.contract import registry

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
    from convspec.cli.reports import json_document
    from convspec.contract import registry

    if not Path(folder).is_dir():
        raise RequestError(f"{folder}: no such folder")
    json_document.writable(json)
    vectors = _vectors()
    names = [name.strip() for name in adapters.split(",") if name.strip()]
    for name in names:
        if absence := registry.absence(registry.adapter(name)):
            raise FrameworkAbsent(absence)
    places = [str(place.absolute()) for place in vectors.folders(Path(folder))]
    found = [outcome for name in (vectors.EXPECTED, *names) for outcome in _outcomes(vectors, places, name)]
    out = console(stderr=json == "-")
    for at in found:
        if at["verdict"] != "agree":
            known = f" (declared as {at['gap']})" if at["gap"] else ""
            text = f"{at['name']}: {at['adapter']}: {at['verdict']}{known}: {at['reason']}"
            out.print(printable(text, 500), markup=False, soft_wrap=True)
    counts = Counter((at["adapter"], at["verdict"], at["gap"] is not None) for at in found)
    for (name, verdict, declared), n in sorted(counts.items()):
        out.print(f"{name}: {n} {verdict}{', declared as gaps' if declared else ''}", markup=False)
    if json is not None:
        json_document.write(json_document.dumps({"schema": "convspec.vectors/1", "results": found}), json)
    wrong = any(at["verdict"] not in ("agree", "unsupported") and at["gap"] is None for at in found)
    raise typer.Exit(1 if wrong or not any(at["verdict"] == "agree" for at in found) else 0)


def _outcomes(vectors: Any, places: list[str], adapter: str) -> Iterator[dict[str, Any]]:
    """Yield the outcome of each test, run in child processes: one that ends its process is a crash."""
    from convspec.contract.isolation import ChildError, ChildProcess, ChildTimeout

    while places:
        begun: dict[str, Any] = {"begin": places[0], "case": None}
        with ChildProcess(vectors.__name__, threads=1) as child:
            child.send({"folders": places, "adapter": adapter})
            try:
                while "done" not in (message := child.next(PATIENCE)):
                    begun = message if "case" in message else begun
                    if "verdict" in message:
                        yield _outcome(adapter, begun["case"], message)
                return
            except ChildError as error:
                verdict = "timeout" if isinstance(error, ChildTimeout) else "crash"
                died = {"name": Path(begun["begin"]).name, "verdict": verdict, "reason": str(error), "evidence": {}}
        yield _outcome(adapter, begun["case"], died)
        places = places[places.index(begun["begin"]) + 1 :]


def _outcome(adapter: str, case: dict[str, Any] | None, said: dict[str, Any]) -> dict[str, Any]:
    """What became of one test, and the declared gap that explains a failure, or None."""
    found = {key: said[key] for key in ("name", "verdict", "reason", "evidence")} | {"adapter": adapter, "gap": None}
    if case is not None and found["verdict"] not in ("agree", "unsupported"):
        found["gap"] = _gap(adapter, case, found["verdict"], found["reason"])
    return found


def _gap(name: str, case: dict[str, Any], verdict: str, reason: str) -> str | None:
    from convspec.conformance import gap_ledger
    from convspec.contract import applying, registry
    from convspec.corpora import Case

    if name not in registry.adapters():
        return None
    adapter, at = registry.adapter(name), Case.from_dict(case)
    support = str(adapter.support(at.spec, at.layout, at.dtype))
    features = gap_ledger.features(at, support=support, adapter=name, variant=adapter.variant)
    known = applying(adapter, adapter.versions())
    return next((gap.id for gap in known if gap.when(features) and gap.covers(verdict, reason)), None)
