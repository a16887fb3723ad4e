"""The command ``vectors``: write the frozen pack of test vectors, export cases as ONNX backend tests, and run these."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from convspec.cli.check import load_cases
from convspec.cli.console import console, print_lines, report_errors, require_writable, write_json
from convspec.cli.options import JsonOption, option, split
from convspec.errors import FrameworkAbsent, RequestError, printable

PATIENCE = 120.0  # seconds for one test

app = typer.Typer(
    name="vectors",
    no_args_is_help=True,
    help="Test vectors for any language: a frozen pack, and conformance cases as ONNX backend tests.",
)


def _vectors() -> Any:
    """Return the module that knows the format, from the adapter that has one."""
    from convspec.contract import registry

    adapter = registry.vectors_adapter()
    if absence := registry.absence(adapter):
        raise FrameworkAbsent(absence)
    return importlib.import_module(adapter.vectors_module)


@app.command()
@report_errors
def pack(folder: Annotated[str, typer.Argument(metavar="DIR", help="New or empty folder for the pack.")]) -> None:
    """Write the frozen pack of test vectors: plain files for any language, the same bytes on every machine."""
    from convspec.contract import registry
    from convspec.corpora.pack import VERSION, write

    graph_test = importlib.import_module(registry.messages_adapter().messages_module).backend_test
    made = write(Path(folder), graph_test)
    lines = [
        f"version {VERSION}: {made.vectors} vectors, {made.graphs} of them also as ONNX backend tests, in {folder}",
        f"{made.size / (1 << 20):.2f} MiB; SHA-256 of manifest.json, which has those of all files: {made.sha256}",
    ]
    print_lines([(line, "") for line in lines], console())


@app.command()
@report_errors
def export(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Output folder, with one folder for each test.")],
    corpus: Annotated[list[str], option("Corpus or file of cases; may be repeated.", "NAME|FILE|-")],
    sample: Annotated[int | None, option("Export a random sample of N cases.", "N", min=1)] = None,
    dtype: Annotated[str | None, option("Dtype. Default: the dtype of each case.")] = None,
    data: Annotated[str | None, option("Kind of data. Default: that of each case (exact integers).")] = None,
) -> None:
    """Export each case as `model.onnx` and `test_data_set_0/*.pb`, for any runtime in any language."""
    changes = {key: value for key, value in (("dtype", dtype), ("data", data)) if value is not None}
    reasons = [*_vectors().export([case.varied(**changes) for case in load_cases(corpus, sample)], Path(folder))]
    skipped = [f"{name}: {reason}" for name, reason in reasons if reason]
    print_lines(((f"skipped: {line}", "") for line in skipped), console(stderr=True))
    written = len(reasons) - len(skipped)
    print_lines([(f"{written} tests in {folder}, {len(skipped)} cases skipped", "")], console())
    raise typer.Exit(0 if written else 1)


@app.command()
@report_errors
def run(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder of a test, or any folder above tests.")],
    adapters: Annotated[str | None, option("Adapters to run; default: the one that writes the format.", "A,B")] = None,
    json: JsonOption = None,
) -> None:
    """Compare the outputs in the files, and the outputs of adapters, with the reference."""
    from convspec.contract import registry

    if not Path(folder).is_dir():
        raise RequestError(f"{folder}: folder not found")
    require_writable(json)
    vectors = _vectors()
    names = split(adapters if adapters is not None else registry.vectors_adapter().name)
    for name in names:
        if absence := registry.absence(registry.adapter(name)):
            raise FrameworkAbsent(absence)
    places = [str(place.absolute()) for place in vectors.folders(Path(folder))]
    results = [result for name in (vectors.EXPECTED, *names) for result in _results(vectors, places, name)]
    print_lines(((line, "") for line in _lines(results)), console(stderr=json == "-"))
    write_json(json, {"schema": "convspec.vectors/1", "results": results})
    wrong = any(result["verdict"] not in ("agree", "unsupported") and result["gap"] is None for result in results)
    raise typer.Exit(1 if wrong or not any(result["verdict"] == "agree" for result in results) else 0)


def _lines(results: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each result that does not agree, then the number of each verdict."""
    for result in results:
        if result["verdict"] != "agree":
            known = f" (known: {result['gap']})" if result["gap"] else ""
            text = f"{result['name']}: {result['adapter']}: {result['verdict']}{known}: {result['reason']}"
            yield printable(text, 500)
    counts = Counter((result["adapter"], result["verdict"], result["gap"] is not None) for result in results)
    for (name, verdict, declared), n in sorted(counts.items()):
        yield f"{name}: {n} {verdict}{' (known)' if declared else ''}"


def _results(vectors: Any, places: list[str], adapter: str) -> Iterator[dict[str, Any]]:
    """Run the tests in a child process; a test that kills it is a crash, and a new child runs the rest."""
    from convspec.contract.isolation import ChildError, ChildProcess, ChildTimeout

    while places:
        begun: dict[str, Any] = {"begin": places[0], "case": None}
        with ChildProcess(vectors.__name__, threads=1) as child:
            child.send({"folders": places, "adapter": adapter})
            try:
                while "done" not in (message := child.next(PATIENCE)):
                    begun = message if "case" in message else begun
                    if "verdict" in message:
                        yield _result(adapter, begun["case"], message)
                return
            except ChildError as error:
                verdict = "timeout" if isinstance(error, ChildTimeout) else "crash"
                died = {"name": Path(begun["begin"]).name, "verdict": verdict, "reason": str(error), "evidence": {}}
        yield _result(adapter, begun["case"], died)
        places = places[places.index(begun["begin"]) + 1 :]


def _result(adapter: str, case: dict[str, Any] | None, answer: dict[str, Any]) -> dict[str, Any]:
    """The result of one test, with the declared gap that covers a failure, or None."""
    result = {key: answer[key] for key in ("name", "verdict", "reason", "evidence")} | {"adapter": adapter, "gap": None}
    if case is not None and result["verdict"] not in ("agree", "unsupported"):
        result["gap"] = _gap(adapter, case, result["verdict"], result["reason"])
    return result


def _gap(name: str, case: dict[str, Any], verdict: str, reason: str) -> str | None:
    from convspec.conformance import gap_ledger
    from convspec.contract import applying, registry
    from convspec.corpora import Case

    if name not in registry.adapters():
        return None
    adapter, at = registry.adapter(name), Case.from_dict(case)
    support = str(adapter.support(at.spec, at.layout, at.dtype))
    ledger = gap_ledger.Ledger()
    ledger.declare(name, applying(adapter, adapter.versions()))
    return ledger.judge(at, name, adapter.variant, support, verdict, reason)
