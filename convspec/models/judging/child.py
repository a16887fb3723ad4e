"""The child process of a judgement: it runs the source, runs a port in a file, or becomes the script that runs a port.

Requests and answers are lines of JSON; the arrays of a run are raw bytes in a file of the shared folder, in the order
of their forms, ``[dtype, shape]``. The first request has ``role``: ``"source"``, ``"port"``, ``"plain"`` or
``"explain"``.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from convspec.contract.isolation import encode, limit_memory, send, separate
from convspec.errors import ConvspecError, printable
from convspec.models import arguments
from convspec.models.comparison.run_both import compare
from convspec.models.comparison.temporary_weights import measure, measure_wide
from convspec.models.files.child import refusal
from convspec.models.judging.raw_arrays import read_arrays, write_arrays
from convspec.models.run_model import Model, adapter_for, open_model
from convspec.reference import Spread

Message: TypeAlias = dict[str, Any]
_KEPT = re.compile(r"PATH|LANG|LC_.*|TZ|LD_LIBRARY_PATH|PYTHONPATH|.*_(BACKEND|PLATFORMS|FLAGS|NUM_THREADS)")


def serve(requests: BinaryIO, replies: int) -> None:
    """Answer until the parent closes the pipe or ends."""
    served: _Served | None = None
    for line in requests:
        request = json.loads(line)
        try:
            if served is None:
                confined = _confine(request)
                if request["role"] == "plain":
                    send(replies, encode({"confined": confined}))
                    _become(request, requests.fileno(), replies)
                served, answer = _Served(request), {"confined": confined}
            else:
                answer = getattr(served, request["do"])(**request["with"])
        except Exception as error:  # noqa: BLE001 – the parent tells the user
            answer = refusal(error, request.get("memory", 0))
        send(replies, encode(answer))


def _confine(request: Message) -> bool:
    """Clean the environment, leave the working directory, and give up the rights that the role does not need."""
    sys.path[:0] = [path for path in request["path"] if path not in sys.path]
    if request["role"] == "source":
        return False
    folder = request["folder"]
    kept = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)}
    kept |= {"HOME": folder, "TMPDIR": folder, "PYTHONPATH": os.pathsep.join(sys.path), "CUDA_VISIBLE_DEVICES": ""}
    os.environ.clear()
    os.environ.update(kept)
    os.chdir(folder)
    limit_memory(request["memory"], files=True)
    return separate(request["readable"], [folder])


def _become(request: Message, requests: int, replies: int) -> None:
    """Become a Python that runs the plain script, in which nothing of this process is left."""
    script = Path(request["folder"], "main.py")
    script.write_text(request["script"], "utf-8")
    os.set_inheritable(requests, True)
    os.set_inheritable(replies, True)
    os.execv(sys.executable, [sys.executable, "main.py", str(requests), str(replies)])


class _Served:
    """An open model; each method answers one kind of request."""

    def __init__(self, opening: Message) -> None:
        self.folder, self.model = Path(opening["folder"]), opening["model"]
        self.opened: Model | None = None
        self.native: Any = None
        self.runs: list[tuple[Any, Spread]] = []

    def open(self, layout: str | None) -> Message:
        """Load the model, and tell its layout, its declared input shapes, what it imports, and where it is defined."""
        before = set(sys.modules)
        self.native = arguments.load_model(self.model)
        adapter = adapter_for(self.native)
        module = adapter.model_module()
        native = module.open(self.native)
        parts = [] if module.parts_need_inputs else module.parts(native)
        own = adapter.native_layout if module.parts_need_inputs else Model(native, adapter, parts).layout
        self.layout = layout or own
        kind = type(self.native[0] if isinstance(self.native, tuple) else self.native)
        files = {name: getattr(sys.modules[name], "__file__", None) for name in {*sys.modules} - before}
        defined = None if adapter.owns(kind) else getattr(sys.modules.get(kind.__module__), "__file__", None)
        return {"layout": self.layout, "shapes": module.input_shapes(native), "defined": defined or "",
                "files": [file for file in files.values() if file]}  # fmt: skip

    def run(self, forms: Sequence[Any]) -> Message:
        """Run the model on inputs, and keep both."""
        inputs = read_arrays(self.folder / "inputs", forms)
        if self.opened is None:
            self.opened = open_model(self.native, inputs, self.layout)
        results = self.opened.results(inputs)
        self.runs.append((inputs, Spread.of(results)))
        return {"forms": write_arrays(self.folder / "results", results)}

    def move(self, which: list[int], seed: int, *, wide: bool) -> Message:
        """Run the model once more on these inputs, all its numbers moved by what rounding moves them."""
        assert self.opened is not None
        inputs, spreads = [self.runs[i][0] for i in which], [self.runs[i][1] for i in which]
        measure(self.opened, inputs, spreads, seed)
        if wide:
            measure_wide(self.opened, inputs, spreads)
        return {}

    def moved(self, which: int) -> Message:
        """Return how far the results of a run have moved."""
        return {"forms": write_arrays(self.folder / "results", self.runs[which][1].moved)}

    def explain(self, port: str, forms: Sequence[Any], layouts: Sequence[str], seconds: float) -> Message:
        """Compare the source with the port layer by layer on these inputs; without a run where one has none."""
        inputs = read_arrays(self.folder / "inputs", forms)
        models = [arguments.load_model(name) for name in (self.model, port)]
        try:
            found = compare(
                models[0], models[1], inputs, layouts=(layouts[0], layouts[1]), seconds=seconds, one_input=True
            )
        except ConvspecError:
            row = next((row for row in compare(models[0], models[1]).rows if row.differences), None)
            if row is None:
                raise
            words = f"{row.place}: {row.differences}"
            return {"verdict": "differ", "divergence": printable(words, 1000), "cause": row.differences, "fix": ""}
        finding = next(iter(found.diagnosis.findings), None) if found.diagnosis is not None else None
        fix = " ".join(kind.fix for kind in finding.mistakes) if finding else ""
        cause = finding.title if finding else (found.first.reason if found.first is not None else "")
        return {"verdict": found.verdict, "divergence": printable(found.divergence, 1000), "cause": cause, "fix": fix}
