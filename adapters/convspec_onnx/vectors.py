"""ONNX backend tests: export cases as tests with the oracle's outputs, and judge tests by the oracle."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import helper, numpy_helper

from convspec import reference
from convspec.atomic_files import write_file
from convspec.contract import LayerRequest, Reading, registry
from convspec.contract.isolation import send
from convspec.corpora import Case, arrays
from convspec.errors import ConvspecError, ParamsError, RequestError, ShapeError, UnsupportedError
from convspec.reference import Verdict, judge, products
from convspec.spec import layouts, rounded
from convspec_onnx import REFERENCE, read
from convspec_onnx.graph import as_float
from convspec_onnx.loading import Array, inline, inputs, load_proto

EXPECTED = "expected"  # the test's own output, judged like an adapter's


def export(cases: Iterable[Case], folder: Path) -> Iterator[tuple[str, str]]:
    """Write each case as ``<id>/model.onnx`` and ``<id>/test_data_set_0``; yield its id and why it is skipped, or "".

    Raises:
        RequestError: for a file that cannot be written.
    """
    for case in cases:
        try:
            params, x = arrays(case)
            model = REFERENCE.build(case.spec, params, "NCHW", case.dtype)
            y = rounded(reference.conv(case.spec, params, x), case.dtype)
        except (UnsupportedError, ShapeError, ParamsError) as error:
            yield case.id, str(error)
            continue
        try:
            _write(model, case, x, y, folder / case.id)
        except OSError as error:
            raise RequestError(f"cannot write {folder / case.id}: {error.strerror}") from None
        yield case.id, ""


def _write(model: onnx.ModelProto, case: Case, x: Array, y: Array, folder: Path) -> None:
    data = folder / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    model.doc_string = case.to_json()
    write_file(folder / "model.onnx", model.SerializeToString())
    for name, entry, array in (("input", model.graph.input[0], x), ("output", model.graph.output[0], y)):
        dtype = helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
        tensor = numpy_helper.from_array(np.ascontiguousarray(array).astype(dtype), entry.name)
        write_file(data / f"{name}_0.pb", tensor.SerializeToString())


def folders(root: Path) -> list[Path]:
    """Return every folder at or below ``root`` that holds a test; raises RequestError if there is none."""
    tests = sorted({path.parent for path in root.rglob("model.onnx") if list(path.parent.glob("test_data_set_*"))})
    if not tests:
        raise RequestError(f"{root}: no folder with model.onnx and test_data_set_0 in it")
    return tests


def serve(requests: BinaryIO, replies: int) -> None:
    """Answer ``{"folders": […], "adapter": …}`` with ``{"begin": folder, …}`` and the results of each test."""
    request = json.loads(requests.readline())

    def report(message: dict[str, Any]) -> None:
        send(replies, json.dumps(message, default=str).encode() + b"\n")

    for folder in request["folders"]:
        report({"begin": folder, "case": None})
        run(Path(folder), request["adapter"], report)
    report({"done": True})


def run(folder: Path, adapter: str, report: Callable[[dict[str, Any]], None]) -> None:
    """Judge a test's own output (:data:`EXPECTED`), or an adapter's output for its layer.

    Reports ``{"begin": folder, "case": …}`` before each set of data, and then its name and verdict.
    """
    own = adapter == EXPECTED

    def report_verdict(name: str, verdict: Verdict) -> None:
        report({"name": name, "verdict": verdict.verdict, "reason": verdict.reason, "evidence": verdict.evidence})

    try:
        model = inline(load_proto(folder / "model.onnx"))
    except ConvspecError as error:
        if own:
            report_verdict(folder.name, Verdict("error", str(error)))
        return
    for data in sorted(folder.glob("test_data_set_*")):
        name = f"{folder.name}/{data.name}"
        try:
            given = inputs.read_tensors(data, "input")
            expected = inputs.read_tensor(data / "output_0.pb")
            reading, x = _read_layer(model, given)
            report({"begin": str(folder), "case": _case(reading, x)})
            verdict = _judge(reading, x, expected, REFERENCE.name) if own else _judge_adapter(adapter, reading, x)
            report_verdict(name, verdict)
        except (UnsupportedError, ShapeError, ParamsError, RequestError, OSError) as error:
            if own:  # else it has been reported
                report_verdict(name, Verdict("unsupported", str(error)))


def _case(reading: Reading, x: Array) -> dict[str, Any]:
    shape = layouts.canonical_shape(x.shape, reading.layout, reading.spec.ndim)
    return Case(reading.spec, shape, layout=reading.layout, dtype=_dtype_name(x)).to_dict()


def _dtype_name(array: Array) -> str:
    return "bfloat16" if array.dtype.kind == "V" else str(array.dtype)


def _read_layer(model: onnx.ModelProto, given: list[Array]) -> tuple[Reading, Array]:
    """Return the one layer that the model is, and its input; other inputs are its weights."""
    if not given:
        raise UnsupportedError("the test has no input")
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    names = [entry.name for entry in inputs.free_inputs(model.graph)]
    for name, value in list(zip(names, given, strict=False))[1:]:
        fixed.graph.initializer.append(numpy_helper.from_array(value, name))
    return read.read(fixed, given[0].shape), given[0]


def _judge(reading: Reading, x: Array, y: Array, adapter: str) -> Verdict:
    spec, dtype = reading.spec, _dtype_name(y)
    data, actual = (layouts.move_axes(as_float(a), reading.layout, "NCHW") for a in (x, y))
    expected, size = (f(spec, reading.params, data) for f in (reference.conv, reference.magnitude))
    arithmetic = registry.adapter(adapter).compute_precision(spec, LayerRequest(dtype=dtype))
    return judge(actual, expected, size, dtype=dtype, data="captured", products=products(spec), arithmetic=arithmetic)


def _judge_adapter(name: str, reading: Reading, x: Array) -> Verdict:
    adapter, dtype = registry.adapter(name), _dtype_name(x)
    support = adapter.support(reading.spec, reading.layout, dtype)
    if str(support) == "unsupported":
        return Verdict("unsupported", support.reason)
    try:
        layer = adapter.build(reading.spec, reading.params, reading.layout, dtype)
        y = adapter.apply(layer, as_float(x), reading.layout)
    except ConvspecError as error:
        return Verdict("error", str(error))
    except Exception as error:  # noqa: BLE001 – the errors of frameworks have no narrower common base
        return Verdict("error", f"{type(error).__name__}: {error}")
    return _judge(reading, x, y, name)
