"""Verify a graph convolution by convolution, in a child process that may run out of memory or crash.

The adapter that audits the graph's format names a module that a child process serves
(:mod:`convspec.contract.isolation`). It is sent one request, and answers with messages:

* ``{"convs": […], "notes": […], "opsets": {…}, "sets": …}`` once: everything known without a run, and the number of
  sets of inputs;
* ``{"begin": [paths]}`` before nodes are run, so that a crash can be assigned to them;
* ``{"path": …, "verdict": …, "reason": …, "evidence": …, "level": …, "inputs": …, "shapes": …, "spec": …}``;
* ``{"operators": [{"path": …, "op_type": …, "words": …, "verdict": …, "reason": …}], "inputs": …, "level": …}``, other
  nodes;
* ``{"path": …, "matched": …, "diverges": …, "findings": […], "notes": […]}`` and ``{"missing": […]}`` with a source;
* ``{"wanted": …}``, a request to :class:`SourceModel` answered with one line;
* ``{"model": […]}``, notes on the model as a whole; ``{"convs": […], "before": path}``, further nodes;
* ``{"optimisation": …}``, ``{"broken": …}``, at the end ``{"done": true}`` – or ``{"refused": why}``.

A :class:`SourceModel` runs the model that the graph was exported from, in this process, on the inputs that the graph is
run on. The audit wants ``{"feeds": path of an .npz, "names": [in order], "layouts": {name: layout or null}}``. The
answer is ``{"index": path of a JSON file}`` or ``{"problem": why}``. The file holds, as
:mod:`convspec.models.files.messages` packs them, ``layers``; ``inputs``, for each layer one per call; and ``outputs``;
and plainly ``calls``, the paths of all called layers, in order, and ``loaded``, the arrays of layers and outputs.
Arrays are ``.npy`` files beside it, canonical, those of linear layers ``(rows, channels, 1)``. The model itself never
leaves this process.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from convspec.contract import Adapter, Part, registry
from convspec.contract.isolation import ChildError, ChildProcess, ChildTimeout, out_of_memory
from convspec.errors import ConvspecError, FrameworkAbsent, RequestError, printable
from convspec.models import run_model
from convspec.models.arguments import read_arrays
from convspec.models.comparison.run_both import compare
from convspec.models.files.messages import pack
from convspec.models.files.model_file import ModelFile
from convspec.models.matching.kernels import Layer
from convspec.models.matching.layers import layer_of, norm_after
from convspec.models.run_model import Model, adapter_for, canonical
from convspec.models.verification.report import VerifyReport, collect
from convspec.spec import Array, ConvParams, ConvSpec, layouts

Inputs: TypeAlias = str | os.PathLike[str] | ArrayLike | Mapping[str, ArrayLike] | Sequence[ArrayLike]
Message: TypeAlias = dict[str, Any]
Answer: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

LEVELS = ("off", "all")
ALL_LEVELS = ("off", "basic", "extended", "all", "evaluator")
CLASSES = ("float32", "tf32", "float16", "bfloat16")
TIMEOUT = 1800.0


def verify(
    path: str | os.PathLike[str],
    against: Any = None,
    inputs: Inputs | None = None,
    *,
    source_inputs: Inputs | None = None,
    dims: Mapping[str, int | Sequence[int]] | None = None,
    levels: Sequence[str] | None = None,
    providers: Sequence[str] = ("CPU",),
    expect: Mapping[str, str] | None = None,
    oracle: bool = True,
    memory: int | None = None,
    timeout: float = TIMEOUT,
    accepted: frozenset[tuple[str, str]] = frozenset(),
    progress: Callable[[int, int], None] | None = None,
    draft: str | os.PathLike[str] | None = None,
) -> VerifyReport:
    """Judge every convolution of an ONNX or LiteRT model by its inputs and outputs, and compare it with its source.

    Args:
        path: of the model, ``.onnx`` or ``.tflite``; external data are read from its own folder only.
        against: the source: a model of any framework with an installed adapter, another ONNX file, or a file that
            :class:`~convspec.models.files.model_file.ModelFile` reads.
        inputs: arrays, one or by name or in order; or a ``.npz``, ``.npy``, or folder in ONNX's test format. None:
            random ones of the declared shapes, two sets of different sizes where axes are symbolic.
        source_inputs: the source's inputs, where it takes others than the graph: in the order of its arguments, or by
            name; or a ``.npz`` or ``.npy``. The outputs are compared all the same.
        dims: sizes of symbolic axes by name, one or one per set.
        levels: of ONNX Runtime's graph optimisation, and ``"evaluator"``, onnx's own; default ``off`` and ``all``. Of
            another format, the ways to run it that its adapter has; default all.
        providers: execution providers of ONNX Runtime, each at every level: ``"CPU"``, ``"CUDA"``, ….
        expect: the accuracy class of a provider, ``{"CUDA": "tf32"}``: the bounds allow it, and probes of every layer
            must measure exactly it. Without: float32's bounds, and no probes.
        oracle: whether every node is compared with the float64 reference. Without, it is compared with its source
            only, which takes no longer than running both twice, and ``levels`` have no effect.
        memory: bytes that running may take beyond six times the model's size; default 768 MiB.
        timeout: seconds for the whole audit.
        accepted: pairs (node, id) that are known and no longer unexpected.
        progress: called with the number of nodes done, and of all nodes.
        draft: where to write the graph with what the source shows to be wrong set right, if anything can be; see
            :func:`~convspec.models.verify_and_repair`.

    Raises:
        RequestError: if the model or the inputs cannot be read.
        FrameworkAbsent: if onnx or ONNX Runtime is not installed.
        UnsupportedError: if no adapter can read the source.
    """
    adapter = registry.audit_adapter(path)
    if absence := registry.absence(adapter):
        raise FrameworkAbsent(absence)
    known = adapter.audit_levels or ALL_LEVELS
    levels = levels if levels is not None else adapter.audit_levels or LEVELS
    if unknown := [level for level in levels if level not in known]:
        raise RequestError(f"unknown level {unknown[0]!r}; the levels are {', '.join(known)}")
    if not levels or not providers:
        raise RequestError("levels and providers must each name at least one")
    if not oracle and against is None:
        raise RequestError("without the oracle, nodes can only be compared with a source: give against")
    _check_classes(expect or {}, providers)
    with ChildProcess(adapter.audit_module, threads=1) as child:
        request: dict[str, Any] = {"path": os.path.abspath(path), "levels": list(levels)}  # noqa: PTH100
        request |= {"limited": True, "memory": memory, "inputs": _input_path(inputs, child.folder)}
        request |= {"providers": list(dict.fromkeys(providers)), "expect": dict(expect or {}), "oracle": oracle}
        request["dims"] = {k: [v] if isinstance(v, int) else list(v) for k, v in (dims or {}).items()}
        request["repair"] = None if draft is None else os.path.abspath(draft)  # noqa: PTH100
        name, answer = None, None
        if against is not None:
            name, answer = _add_source(against, adapter, request, child.folder, source_inputs)
        report = VerifyReport(os.fspath(path), name, [], accepted=accepted)
        report.environment |= {"versions": adapter.versions(), "levels": list(levels)}
        report.environment |= {"providers": request["providers"], "expect": request["expect"]}
        began = time.monotonic()
        messages = _messages(child, request, timeout, answer)
        collect(report, _report_progress(messages, _runs_per_node(request), progress))
        report.environment["seconds"] = round(time.monotonic() - began, 3)
    return report


def _input_path(inputs: Inputs | None, folder: Path, name: str = "inputs") -> str | None:
    """Return the path of the inputs; arrays are written to a file."""
    if inputs is None:
        return None
    if isinstance(inputs, str | os.PathLike):
        return os.path.abspath(inputs)  # noqa: PTH100 – links stay as they are
    target = folder / f"{name}.npz"
    listed: Any = [inputs] if isinstance(inputs, np.ndarray) else inputs
    named = inputs if isinstance(inputs, Mapping) else dict(enumerate(listed))
    np.savez(target, allow_pickle=False, **{str(name): np.asarray(array) for name, array in named.items()})
    return str(target)


def _add_source(
    source: Any, adapter: Adapter, request: Message, folder: Path, inputs: Inputs | None
) -> tuple[str, Answer | None]:
    """Add the source to the request; return its name, and the function that answers for it."""
    request["folder"] = str(folder)
    name = model_name(source)
    if isinstance(source, str | os.PathLike) and name.endswith(adapter.graph_files):
        request["against"] = os.path.abspath(name)  # noqa: PTH100
        request["source_inputs"] = _input_path(inputs, folder, "source")
        return name, None
    request["source"] = True
    return name, SourceModel(source, folder, load_source_inputs(inputs)).answer


def _check_classes(expect: Mapping[str, str], providers: Sequence[str]) -> None:
    """Raise RequestError for an unknown class, or for a provider that is not run."""
    for provider, name in expect.items():
        if name not in CLASSES:
            raise RequestError(f"expect {provider}={name}: the class must be one of {', '.join(CLASSES)}")
        if provider.lower() not in [other.lower() for other in providers]:
            raise RequestError(f"expect {provider}={name}: providers are {', '.join(providers)}; add it to them")


def _runs_per_node(request: Message) -> int:
    """Return how often each node is judged with one set of inputs."""
    levels = [level for level in request["levels"] if level != "evaluator"]
    return len(levels) * len(request["providers"]) + ("evaluator" in request["levels"])


def _report_progress(
    messages: Iterator[Message], runs: int, progress: Callable[[int, int], None] | None
) -> Iterator[Message]:
    """Return the messages, and call ``progress`` on the way."""
    nodes, sets, seen = 0, 1, set()
    for message in messages:
        nodes += len(message.get("convs", ()))
        sets = message.get("sets", sets)
        if "verdict" in message:
            seen.add((message["path"], message["level"], message.get("provider"), message["inputs"]))
        if progress is not None and ("verdict" in message or message.get("done")):
            total = nodes * sets * runs
            # a node in a branch that no input takes is run once, by itself
            progress(total if message.get("done") else len(seen), total)
        yield message


def _messages(
    child: ChildProcess, request: Mapping[str, Any], timeout: float, answer: Answer | None = None
) -> Iterator[Message]:
    """Yield the audit's messages; if its process dies, verdicts on the nodes that were running or to be run."""
    names: list[str] = []
    running: list[str] = []
    judged: set[str] = set()
    child.send(request)
    try:
        for message in child.messages(timeout):
            if "refused" in message:
                raise RequestError(message["refused"])
            if answer is not None and "wanted" in message:
                child.send(answer(message["wanted"]))
                continue
            names += [entry["name"] for entry in message.get("convs", ())]
            running = message.get("begin", running)
            if "verdict" in message:
                judged.add(message["path"])
            yield message
            if message.get("done"):
                return
    except ChildError as error:
        reason, kind = str(error), "timeout" if isinstance(error, ChildTimeout) else "crash"
        reason += "; if you trust the model, raise --memory" if out_of_memory(reason) else ""
    if not names:
        raise RequestError(f"the model could not be read: {reason}")
    yield {"broken": reason, "level": "", "inputs": ""}
    for name in names:
        if name in running or name not in judged:
            verdict, why = (kind, reason) if name in running else ("unsupported", f"not run: {reason}")
            yield {"path": name, "verdict": verdict, "reason": why, "evidence": {}, "level": "", "inputs": "",
                   "shapes": {}, "spec": None}  # fmt: skip


# -- the source ---


@dataclass
class SourceModel:
    """The source of a graph: a model or the path of one, a folder for its answers, and its own inputs, if others.

    Raises:
        RequestError: if no adapter knows the object's framework.
    """

    model: Any
    folder: Path
    inputs: Any = None
    _runs: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.model = adapter_for(self.model).model_module().open(self.model)

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run the model on the inputs of one request, and write what its layers read and returned to files."""
        with np.load(request["feeds"], allow_pickle=False) as stored:
            feeds = {name: stored[f"input_{place}"] for place, name in enumerate(request["names"])}
        if "graph" in request:
            return self._compare(request["graph"], list(feeds.values()))
        try:
            if self.inputs is not None:
                model = run_model.open_model(self.model, self.inputs)
            else:
                model = self._run(feeds, request.get("layouts") or {})
        except ConvspecError as error:
            return {"problem": str(error)}
        self._runs += 1
        target = self.folder / f"run_{self._runs}"
        target.mkdir()
        index = target / "index.json"
        index.write_text(json.dumps(_describe(model, target)))
        return {"index": str(index)}

    def _compare(self, path: str, feeds: list[Array]) -> dict[str, Any]:
        """Compare the model with a file that an adapter loads, layer by layer."""
        try:
            rows = compare(self.model, ModelFile(path), feeds if self.inputs is None else self.inputs).rows
        except ConvspecError as error:
            return {"problem": str(error)}
        return {"rows": [{"a": row.a, "b": row.b, "verdict": row.verdict, "why": row.differences or row.reason,
                          "finding": row.diagnosis.findings[0].id if row.diagnosis and row.diagnosis.findings else ""}
                         for row in rows if row.label.startswith("conv ")]}  # fmt: skip

    def _run(self, feeds: Mapping[str, Array], declared: Mapping[str, str | None]) -> Model:
        """Return the model, run on the inputs as they are, or in the layout of its convolutions, whichever it takes."""
        own = _own_layout(self.model)
        given = next((layout for layout in declared.values() if layout), own)
        other = layouts.CHANNELS_LAST if own == layouts.CHANNELS_FIRST else layouts.CHANNELS_FIRST
        moves = [(own, own), (other, own), (own, other)]  # the first one moves nothing
        if given != own:
            moves = [moves[1], moves[0], moves[2]]
        failures = []
        forms: list[Any] = [list(feeds.values())] + ([dict(feeds)] if len(feeds) > 1 else [])
        for inputs in forms:
            for move in moves:
                try:
                    return run_model.open_model(self.model, run_model.moved(inputs, *move), own, own)
                except RequestError as error:
                    failures.append(str(error))
        shapes = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
        raise RequestError(
            f"the source takes the graph's inputs ({shapes}) in neither layout: {failures[0]}; if it takes other "
            f"inputs, give them as source_inputs"
        )


def _own_layout(model: Any) -> str:
    """Return the layout of the model's first convolution; the framework's own where only a run can tell."""
    adapter = adapter_for(model)
    module = adapter.model_module()
    if module.parts_need_inputs:
        return adapter.native_layout
    layout = Model(model, adapter, module.parts(model)).layout
    return layouts.CHANNELS_LAST if layout.endswith("C") else layouts.CHANNELS_FIRST


def _describe(model: Model, folder: Path) -> dict[str, Any]:
    """Return what the model did in one run, its arrays written to numbered files."""
    parts = (*model.ordered("conv"), *model.ordered("linear"))
    layers = [(layer, _inputs(model, part)) for part in parts if (layer := _layer(model, part))]
    outputs = [y for y in model.outputs if y.dtype.kind in "fiub"]
    arrays: dict[str, Array] = {}
    document = {"layers": pack([layer for layer, _ in layers], arrays), "outputs": pack(outputs, arrays)}
    document |= {"loaded": list(arrays), "inputs": pack([xs for _, xs in layers], arrays)}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
    return document | {"calls": [call.path for call in model.calls]}


def _layer(model: Model, part: Part) -> Layer | None:
    """Return one layer; None where it could not be read."""
    if part.kind == "linear":
        kernel, bias = part.arrays["kernel"], part.arrays.get("bias")
        spec = ConvSpec(kernel.shape[1], kernel.shape[0], 1, ndim=1, bias=bias is not None)
        return Layer(part.path, spec, ConvParams(kernel[:, :, None], bias), linear=True)
    return layer_of(part, norm_after(model, part))


def _inputs(model: Model, part: Part) -> list[Array]:
    """Return what a layer read in its calls, canonical."""
    found = [call.x for call in model.calls if call.path == part.path]
    if part.reading is None:
        return [x.reshape(-1, x.shape[-1], 1) for x in found]
    return [canonical(x, part.reading.layout) for x in found]


def load_source_inputs(inputs: Any) -> Any:
    """Return inputs in the order of the source's arguments, or by name.

    A ``.npz`` or ``.npy`` file is read; raises RequestError if it cannot be read.
    """
    if isinstance(inputs, np.ndarray):
        return [inputs]
    if isinstance(inputs, str | os.PathLike):
        return list(read_arrays(inputs).values())
    return inputs


def model_name(model: Any) -> str:
    """Return the path of a model's file, or the model's class."""
    if isinstance(model, str | os.PathLike):
        return os.fspath(model)
    if isinstance(model, ModelFile):
        return model.path
    kind = type(model[0] if isinstance(model, Sequence) and len(model) else model)
    return f"{kind.__module__}.{kind.__qualname__}"


# -- repair ---


def verify_and_repair(
    path: str | os.PathLike[str], out: str | os.PathLike[str], against: Any, inputs: Any = None, **options: Any
) -> VerifyReport:
    """Repair a graph, and return the verification of the written graph, whose ``repaired`` says what was changed.

    What can be set right is an attribute or an array of a convolution that its source layer shows. Where that helps no
    node, nothing is written, and the report is on the model as it is, ``repaired`` empty.

    Args:
        path: of the model.
        out: the file to write, another one.
        against: the source, as for :func:`~convspec.verify`, which has all other arguments.
        inputs: as for :func:`~convspec.verify`.
        options: as for :func:`~convspec.verify`.

    Raises:
        RequestError: for the model itself as ``out``, and without a source.
    """
    target = Path(out)
    if target.exists() and Path(path).exists() and target.samefile(path):
        raise RequestError(f"--repair {printable(out)} is the model itself, which is never changed: give another path")
    if against is None:
        raise RequestError("a graph can only be repaired after its source: give against")
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "repaired.onnx"
        report = verify(path, against, inputs, draft=draft, **options)
        if not report.repaired:
            return report
        written = verify(draft, against, inputs, **options)
        wrong = {node for node, _, _ in written.unexpected}
        fixed = {node for node, _, _ in report.unexpected if node != "model"} - wrong
        if not fixed:
            report.repaired = []
            return report
        shutil.copyfile(draft, target)
    written.model, written.repaired = os.fspath(out), report.repaired
    return written
