"""Cases as ONNX's own backend tests, outputs by the oracle: any runtime, in any language, can be held to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import onnx
from onnx import helper, numpy_helper

from convspec import reference
from convspec.contract import LayerRequest, registry
from convspec.contract.isolation import send
from convspec.corpora import Case, arrays
from convspec.errors import ConvspecError, ParamsError, RequestError, ShapeError, UnsupportedError
from convspec.reference import Verdict, judge, products
from convspec.spec import layouts, rounded
from convspec_onnx import REFERENCE, read
from convspec_onnx.graph import convolutions
from convspec_onnx.loading import inline_functions, untrusted
from convspec_onnx.verify import inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.contract import Reading


EXPECTED = "expected"  # the file's own output, which is held against the oracle like an adapter's


def export(cases: Iterable[Case], folder: Path) -> Iterator[tuple[str, str]]:
    """Write each case as ``<id>/model.onnx`` and ``<id>/test_data_set_0``; yields id and why left out, or "".

    Raises:
        RequestError: where a file cannot be written.
    """
    for case in cases:
        try:
            model = REFERENCE.build(case.spec, arrays(case)[0], "NCHW", case.dtype)
            params, x = arrays(case)
            y = rounded(reference.conv(case.spec, params, x), case.dtype)
        except (UnsupportedError, ShapeError, ParamsError) as error:
            yield case.id, str(error)
            continue
        try:
            _write(model, case, x, y, folder / case.id)
        except OSError as error:
            raise RequestError(f"cannot write {folder / case.id}: {error.strerror}") from None
        yield case.id, ""


def _write(model: onnx.ModelProto, case: Case, x: NDArray[Any], y: NDArray[Any], folder: Path) -> None:
    data = folder / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    model.doc_string = case.to_json()
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    for name, entry, array in (("input", model.graph.input[0], x), ("output", model.graph.output[0], y)):
        dtype = helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
        tensor = numpy_helper.from_array(np.ascontiguousarray(array).astype(dtype), entry.name)
        (data / f"{name}_0.pb").write_bytes(tensor.SerializeToString())


def folders(root: Path) -> list[Path]:
    """Every folder at or below ``root`` that holds a test; raises RequestError where there is none."""
    found = sorted({path.parent for path in root.rglob("model.onnx") if list(path.parent.glob("test_data_set_*"))})
    if not found:
        raise RequestError(f"{root}: no folder with model.onnx and test_data_set_0 in it")
    return found


def serve(requests: BinaryIO, replies: int) -> None:
    """Answer ``{"folders": […], "adapter": …}``: for each test ``{"begin": its folder, …}``, then its outcome."""
    request = json.loads(requests.readline())

    def say(message: dict[str, Any]) -> None:
        send(replies, json.dumps(message, default=str).encode() + b"\n")

    for folder in request["folders"]:
        say({"begin": folder, "case": None})
        run(Path(folder), request["adapter"], say)
    say({"done": True})


def run(folder: Path, adapter: str, say: Callable[[dict[str, Any]], None]) -> None:
    """Hold a test's own output (:data:`EXPECTED`), or what an adapter makes of its layer, against the oracle.

    Says of each set of data ``{"begin": folder, "case": …}`` before it is run, then its name and verdict.
    """
    own = adapter == EXPECTED

    def tell(name: str, found: Verdict) -> None:
        say({"name": name, "verdict": found.verdict, "reason": found.reason, "evidence": found.evidence})

    try:
        model = inline_functions.inlined(untrusted.load(folder / "model.onnx"))
    except ConvspecError as error:
        if own:
            tell(folder.name, Verdict("error", str(error)))
        return
    for data in sorted(folder.glob("test_data_set_*")):
        name = f"{folder.name}/{data.name}"
        try:
            given = [inputs.tensor(p) for p in sorted(data.glob("input_*.pb"), key=inputs.number_of)]
            expected = inputs.tensor(data / "output_0.pb")
            reading, x = _layer(model, given)
            say({"begin": str(folder), "case": _case(reading, x)})
            tell(name, _judged(reading, x, expected, REFERENCE.name) if own else _applied(adapter, reading, x))
        except (UnsupportedError, ShapeError, ParamsError, RequestError, OSError) as error:
            if own:  # else it is said already
                tell(name, Verdict("unsupported", str(error)))


def _case(reading: Reading, x: NDArray[Any]) -> dict[str, Any]:
    shape = layouts.canonical_shape(x.shape, reading.layout, reading.spec.ndim)
    return Case(reading.spec, shape, layout=reading.layout, dtype=_name(x.dtype)).to_dict()


def _name(dtype: np.dtype[Any]) -> str:
    return "bfloat16" if dtype.kind == "V" or str(dtype) == "bfloat16" else str(dtype)


def _layer(model: onnx.ModelProto, given: list[NDArray[Any]]) -> tuple[Reading, NDArray[Any]]:
    """The one layer that the model is, and its input; weights that come as inputs are put into the model first."""
    if not given:
        raise UnsupportedError("the test has no input")
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    names = [entry.name for entry in inputs.free(model.graph)]
    for name, value in list(zip(names, given, strict=False))[1:]:
        fixed.graph.initializer.append(numpy_helper.from_array(value, name))
    return read.read(fixed, given[0].shape), given[0]


def _judged(reading: Reading, x: NDArray[Any], y: NDArray[Any], adapter: str) -> Verdict:
    spec = reading.spec
    dtype = _name(y.dtype)
    data, actual = (layouts.move_axes(convolutions.as_float(a), reading.layout, "NCHW") for a in (x, y))
    right, size = (f(spec, reading.params, data) for f in (reference.conv, reference.magnitude))
    arithmetic = registry.adapter(adapter).compute_precision(spec, LayerRequest(dtype=dtype))
    return judge(actual, right, size, dtype=dtype, data="captured", products=products(spec), arithmetic=arithmetic)


def _applied(name: str, reading: Reading, x: NDArray[Any]) -> Verdict:
    adapter = registry.adapter(name)
    dtype = _name(x.dtype)
    support = adapter.support(reading.spec, reading.layout, dtype)
    if str(support) == "unsupported":
        return Verdict("unsupported", support.reason)
    try:
        layer = adapter.build(reading.spec, reading.params, reading.layout, dtype)
        y = adapter.apply(layer, convolutions.as_float(x), reading.layout)
    except ConvspecError as error:
        return Verdict("error", str(error))
    except Exception as error:  # noqa: BLE001 – a framework's errors have no common base but this
        return Verdict("error", f"{type(error).__name__}: {error}")
    return _judged(reading, x, y, name)
