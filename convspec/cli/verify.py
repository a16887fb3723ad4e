"""``convspec verify``."""

from __future__ import annotations

import functools
import json as json_module
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convspec.cli.console import console, print_lines, require_writable, write
from convspec.cli.options import HtmlOption, JsonOption, JunitOption, MarkdownOption, option, split
from convspec.errors import RequestError, printable

if TYPE_CHECKING:
    from convspec.models import VerifyReport

BASELINE = "convspec.baseline/1"
EXAMPLES = """
Exit status 0: nothing is wrong that the baseline does not accept; 1: something is unexpected, or nothing agrees;
2: the model or the request is wrong. The model is read in a child process with limits on memory and time.

Examples:

    convspec verify model.onnx

    convspec verify model.onnx --against source.onnx --inputs batch.npz --html report.html

    convspec verify model.onnx --against mypackage.models:build --dim batch=1,3 --dim width=96

    convspec verify model.onnx --against mypackage.models:build --repair repaired.onnx

    convspec verify model.onnx --levels off,basic,extended,all,evaluator --providers CPU,CUDA --expect CUDA=tf32

    convspec verify model.tflite --against model.keras

    convspec verify model.onnx --markdown "$GITHUB_STEP_SUMMARY" --junit verify.xml --baseline accepted.json
"""
_MIB = 1 << 20


def verify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="ONNX or .tflite file to verify.")],
    against: Annotated[str | None, option("Source of the export: `module:factory`, or a model file.", "SOURCE")] = None,
    inputs: Annotated[str | None, option("Inputs as .npz, .npy, or a folder in ONNX's test format.", "FILE")] = None,
    source_inputs: Annotated[str | None, option(
        "Inputs of the source, if they differ: .npz in the order of its arguments, or .npy.", "FILE")] = None,
    dim: Annotated[list[str] | None, option("Size of a symbolic axis; two sizes make two runs.", "NAME=N[,N]")] = None,
    levels: Annotated[str | None, option(
        "Optimisation levels: off, basic, extended, all, and onnx's own `evaluator`; default off,all. For a .tflite "
        "file: xnnpack, builtin, reference; default all three.", "L,…")] = None,
    providers: Annotated[str, option(
        "Execution providers of ONNX Runtime: CPU, CUDA, …; each runs every level.", "P,…")] = "CPU",
    expect: Annotated[list[str] | None, option(
        "Expected accuracy class of a provider: float32, tf32, float16, bfloat16.", "PROVIDER=CLASS")] = None,
    oracle: Annotated[bool, option(
        "Compare nodes with the float64 reference, or with --against only.", None, "--oracle/--no-oracle")] = True,
    memory: Annotated[int | None, option(
        "Memory limit beyond 6× the model's size; default 768.", "MIB", min=64)] = None,
    timeout: Annotated[float, option("Time limit for the whole verification.", "SECONDS")] = 1800.0,
    repair: Annotated[str | None, option(
        "Correct the mistakes that --against finds, write the graph, and verify it.", "OUT.onnx")] = None,
    baseline: Annotated[str | None, option("Accept the findings listed in FILE.", "FILE")] = None,
    write_baseline: Annotated[str | None, option("Write the current findings as a baseline.", "FILE")] = None,
    json: JsonOption = None,
    html: HtmlOption = None,
    markdown: MarkdownOption = None,
    junit: JunitOption = None,
) -> None:  # fmt: skip
    """Verify every node of an ONNX or LiteRT model, and compare it with the model that it was exported from."""
    from convspec.cli.reports import progress, verify_files
    from convspec.models import arguments, verify_and_repair
    from convspec.models import verify as run_verify

    require_writable(json, html, markdown, junit, write_baseline, repair)
    dims, (accepted, expected) = _dims(dim or []), read_baseline(baseline)
    expected |= _expected(expect or [])
    with progress.display(console(stderr=True), "verifying") as shown:
        source = None if against is None else arguments.load_model(against)
        run = run_verify if repair is None else functools.partial(verify_and_repair, out=repair)
        report = run(
            model, against=source, inputs=inputs, source_inputs=source_inputs,
            dims=dims, levels=split(levels) if levels else None, providers=split(providers), expect=expected,
            oracle=oracle, memory=None if memory is None else memory * _MIB, timeout=timeout, accepted=accepted,
            progress=progress.count_steps(shown),
        )  # fmt: skip
    taken = write(
        (html, lambda: verify_files.page(report)),
        (markdown, lambda: verify_files.markdown(report)),
        (junit, lambda: verify_files.junit(report)),
        (write_baseline, lambda: _baseline(report)),
        json=(json, report.to_dict),
    )
    print_lines(report.styled_lines(), console(stderr=taken))
    if repair is not None:
        print_lines(_repaired_lines(report, repair), console(stderr=taken))
    unrepaired = repair is not None and not report.repaired
    raise typer.Exit(1 if unrepaired or (report.unexpected and write_baseline is None) else 0)


def _repaired_lines(report: VerifyReport, path: str) -> list[tuple[str, str]]:
    """Return what was changed, or that nothing was written."""
    if not report.repaired:
        why = (
            "no finding is an attribute or an array that the source shows" if report.unexpected else "nothing is wrong"
        )
        return [(f"{printable(path)} was not written: {why}", "bold red")]
    changes = [(f"repaired: {printable(change)}", "") for change in report.repaired]
    return [*changes, (f"{printable(path)} was written, and verified anew", "bold green")]


def _expected(given: list[str]) -> dict[str, str]:
    if wrong := [text for text in given if not all(text.partition("="))]:
        raise RequestError(f"--expect {wrong[0]!r} must be like CPU=float32 or CUDA=tf32")
    return dict(text.partition("=")[::2] for text in given)


def _dims(given: list[str]) -> dict[str, list[int]]:
    dims: dict[str, list[int]] = {}
    for text in given:
        name, _, sizes = text.rpartition("=")
        try:
            dims[name] = [int(size) for size in sizes.split(",")]
        except ValueError:
            dims[name] = []
        if not name or not dims[name] or min(dims[name]) < 0:
            raise RequestError(f"--dim {printable(text, 80)!r} must be like batch=1 or width=64,96")
    return dims


def read_baseline(path: str | None) -> tuple[frozenset[tuple[str, str]], dict[str, str]]:
    """Return the (node, id) pairs of a baseline file, and the accuracy class that it expects of each provider."""
    if path is None:
        return frozenset(), {}
    try:
        document = json_module.loads(Path(path).read_text("utf-8"))
        if document["schema"] != BASELINE:
            raise ValueError(f"its schema is {document['schema']!r}, not {BASELINE!r}")
        accepted = frozenset((str(entry["node"]), str(entry["id"])) for entry in document["accepted"])
        return accepted, {str(name): str(kind) for name, kind in document.get("expect", {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"baseline {path!r} cannot be read: {error}") from None


def _baseline(report: VerifyReport) -> str:
    pairs = ((node, name) for node, name, _ in report.problems() if name != "nothing-agreed")
    return baseline_text(pairs, report.environment["expect"])


def baseline_text(pairs: Iterable[tuple[str, str]], expect: Mapping[str, str]) -> str:
    """Return the text of a baseline that accepts these pairs (node, id)."""
    accepted = [{"node": node, "id": name} for node, name in dict.fromkeys(pairs)]
    return json_module.dumps({"schema": BASELINE, "expect": expect, "accepted": accepted}, indent=1) + "\n"
