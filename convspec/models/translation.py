"""A live model as another framework's code: written, run, given the weights, and compared."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convspec.contract import registry
from convspec.errors import UnsupportedError, printable
from convspec.layers import NetworkCode, trace_live, write_network
from convspec.models.comparison.results import Comparison
from convspec.models.comparison.run_both import compare
from convspec.models.porting import PortReport, port_weights

_WIDTH = 100


@dataclass(frozen=True, slots=True, repr=False)
class ModelTranslation:
    """A model in another framework's code; ``print`` shows the program, whose head says what was proved.

    Attributes:
        code: the program, its remarks and what it lacks.
        model: what the program defines, with the source's weights; None where something is missing.
        port: what was moved; ``comparison``: how both models agree. None where something is missing.
    """

    origin: str
    code: NetworkCode
    model: Any = None
    port: PortReport | None = None
    comparison: Comparison | None = None

    @property
    def agrees(self) -> bool:
        """Whether both models were run, and their results agree."""
        return self.comparison is not None and self.comparison.verdict == "agree"

    def __str__(self) -> str:
        """Return the program below a comment that says whether it was run, and how it agrees."""
        head = [f"Written from {self.origin} for {self.code.adapter}.", self._proof(), *self.code.remarks]
        lines = [line for text in head for line in textwrap.wrap(text, _WIDTH - 2)]
        return "\n".join([*(f"# {line}" for line in lines), "", self.code.source])

    def _proof(self) -> str:
        if self.comparison is None:
            missing = "; ".join(f"{path}: {reason}" for path, reason in self.code.missing)
            return f"Not run: {len(self.code.missing)} of its steps have no counterpart. {missing}"
        shapes = " and ".join("×".join(map(str, shape)) for shape in self.code.inputs)
        words = printable(text_of(self.comparison), None)
        return f"Run on {shapes} with the weights of the source: {words[:1].lower()}{words[1:]}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        verdict = None if self.comparison is None else self.comparison.verdict
        return {
            "from": self.origin, "to": self.code.adapter, "source": self.code.source, "verdict": verdict,
            "missing": [list(entry) for entry in self.code.missing], "remarks": list(self.code.remarks),
            "head": self._proof(),
        }  # fmt: skip


def text_of(comparison: Comparison) -> str:
    """Return the sentence that says how two models agree or differ."""
    return str(comparison).rstrip().rpartition("\n")[2]


def translate_model(model: Any, to: str, *input_shapes: Sequence[int], seed: int = 0) -> ModelTranslation:
    """Write a live model in another framework's code, run that code, move the weights and compare both models.

    Args:
        model: of any framework whose adapter traces its steps.
        to: name of the target's adapter.
        input_shapes: of the model's inputs, in its own layout.
        seed: of the inputs on which both are run.

    Raises:
        RequestError: where no adapter knows the model.
        UnsupportedError: where the target writes no networks.
        ShapeError: where the model refuses the input.
    """
    adapter, trace = trace_live(model, input_shapes)
    shapes = [tuple(int(n) for n in shape) for shape in input_shapes]
    code = write_network(trace, registry.adapter(adapter).native_layout, to, shapes)
    if code.missing:
        return ModelTranslation(adapter, code)
    made = run_code(code)
    draw = np.random.default_rng(seed)
    inputs = [draw.standard_normal(shape).astype(np.float32) for shape in shapes]
    report = port_weights(model, made, inputs, force=True)  # the layers are in the order of the source
    made = made if report.model is None else report.model
    return ModelTranslation(adapter, code, made, report, compare(model, made, inputs))


def run_code(code: NetworkCode) -> Any:
    """Return the model that a program defines; the program is convspec's own.

    Raises:
        UnsupportedError: where the framework refuses it, with its words.
    """
    scope: dict[str, Any] = {"__name__": "network"}
    try:
        exec(compile(code.source, "<network>", "exec"), scope)
    except Exception as error:
        raise UnsupportedError(f"{code.adapter} refuses the program: {printable(error)}") from error
    return scope["model"]
