"""A case: one layer, one input, and everything else that determines the numbers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from hashlib import sha256
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convspec.corpora import quantized, test_data
from convspec.corpora.quantized import QUANTIZED_KINDS
from convspec.errors import ShapeError, SpecError, UnknownName
from convspec.spec import DTYPES, SIZE_RULE, Array, ConvParams, ConvSpec, QuantSpec, layouts, product, too_large

_MOST_ELEMENTS = 2**60  # of 8 bytes each
DATA_KINDS = ("exact", "random", "cancellation", "wide", "one_sign", "nonfinite", "nonfinite_kernel")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


# the optional fields: the rule for the value in JSON, in words and as a test
_OPTIONAL: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "layout": ("be a string", _is_text),
    "dtype": (f"be one of {', '.join(DTYPES)}", DTYPES.__contains__),
    "device": ("be a string", _is_text),
    "data": (f"be one of {', '.join((*DATA_KINDS, *QUANTIZED_KINDS))}", (*DATA_KINDS, *QUANTIZED_KINDS).__contains__),
    "seed": ("be an int, at least 0", lambda value: type(value) is int and value >= 0),
    "name": ("be a string", _is_text),
}


@dataclass(frozen=True, slots=True, repr=False)
class Case:
    """One layer and one input to check. The seed determines the arrays, so a case fits on one line of JSON.

    >>> Case(ConvSpec(3, 16, 3, stride=2), (1, 3, 32, 32), seed=7)
    Case(ConvSpec(3, 16, kernel_size=(3, 3), stride=(2, 2)), (1, 3, 32, 32), seed=7)

    Attributes:
        spec: the layer.
        input_shape: canonical, ``(N, C, *spatial)``, whatever the layout.
        layout: ``"NCHW"`` or ``"NHWC"``: the layout of the tensors that the adapter gets.
        dtype: of input, weights and output; of a quantised layer, of the numbers that its integers stand for.
        device: ``"cpu"``, ``"cuda"``, ….
        data: kind of data, one of :data:`DATA_KINDS`, see :mod:`convspec.corpora.test_data`; or one of
            :data:`QUANTIZED_KINDS`, see :mod:`convspec.corpora.quantized`: the layer is a quantised one.
        seed: of the arrays.
        name: free text for readers; not part of the case's identity.
    """

    spec: ConvSpec
    input_shape: tuple[int, ...]
    layout: str = layouts.CHANNELS_FIRST
    dtype: str = "float32"
    device: str = "cpu"
    data: str = "exact"
    seed: int = 0
    name: str = field(default="", compare=False)

    def __reduce__(self) -> tuple[type[Case], tuple[Any, ...]]:
        return Case, _VALUES(self)  # a run pickles thousands, and the dataclass's own way is slow

    def __repr__(self) -> str:
        options = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default)
        return f"Case({', '.join([repr(self.spec), repr(self.input_shape), *list(options)[2:]])})"

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of spec, input shape and seed: the same on every machine."""
        return _id(self.spec, self.input_shape, self.seed)

    def varied(self, **changes: Any) -> Case:
        """Return the case with other values of some fields."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the case JSON-ready; :meth:`from_dict` reads it."""
        own = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {**own, "spec": self.spec.to_dict(), "input_shape": list(self.input_shape)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Case:
        """Read a mapping; ``spec`` and ``input_shape`` are required, unknown keys are ignored.

        Raises:
            SpecError: one sentence for each field that breaks a rule.
            UnknownName: for an unknown layout.
        """
        problems = [f"{key} must be given" for key in ("spec", "input_shape") if key not in data]
        shape = data.get("input_shape", ())
        if too_large(shape):
            problems.append(f"input_shape must {SIZE_RULE}")
        elif not isinstance(shape, list | tuple) or not all(type(n) is int and n >= 0 for n in shape):
            problems.append(f"input_shape={shape!r} must be a list of ints, none negative")
        if problems:
            raise SpecError(problems)
        spec = ConvSpec.from_dict(data["spec"])
        if len(shape) != spec.ndim + 2 or shape[1] != spec.in_channels:
            raise SpecError([f"input_shape={list(shape)} must be (N, {spec.in_channels}, {spec.ndim} spatial sizes)"])
        _check_elements(spec, shape)
        known = {k: data[k] for k in _OPTIONAL if k in data}
        if problems := [f"{k}={v!r} must {_OPTIONAL[k][0]}" for k, v in known.items() if not _OPTIONAL[k][1](v)]:
            raise SpecError(problems)
        if "layout" in known:
            known["layout"] = layouts.family(known["layout"], spec.ndim)
        return cls(spec, tuple(shape), **known)

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(self.to_dict(), separators=(",", ":"))


def _check_elements(spec: ConvSpec, shape: Sequence[int]) -> None:
    """Raise SpecError where input, kernel or output could not be addressed in bytes, whatever the memory."""
    shapes = {"input": tuple(shape), "kernel": spec.kernel_shape}
    with contextlib.suppress(ShapeError):  # such a case is valid: adapters must refuse it
        shapes["output"] = spec.output_shape(shape)
    problems = [
        f"the {name} of shape {shape} must have fewer than 2**60 elements: no memory can hold it"
        for name, shape in shapes.items()
        if product(shape) >= _MOST_ELEMENTS
    ]
    if problems:
        raise SpecError(problems)


_VALUES = attrgetter(*(entry.name for entry in fields(Case)))


@lru_cache(maxsize=1024)
def _id(spec: ConvSpec, input_shape: tuple[int, ...], seed: int) -> str:
    text = json.dumps([spec.to_dict(), list(input_shape), seed], separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:12]


def arrays(case: Case) -> tuple[ConvParams, Array]:
    """Weights and input of a case, determined by its seed: canonical order, in the dtype's carrier.

    Raises:
        UnknownName: if the case's kind of data is none of :data:`DATA_KINDS`.
    """
    return test_data.forward(case.spec, case.input_shape, case.data, case.dtype, case.seed)


def gradient_arrays(case: Case) -> tuple[ConvParams, Array, Array]:
    """Weights, input and dy of a case for its gradients; exact data make all three gradients exact.

    Raises:
        UnknownName: if the case's kind of data has no gradients.
        ShapeError: if the layer has no output.
    """
    return test_data.gradient(case.spec, case.input_shape, case.data, case.dtype, case.seed)


def quantized_arrays(case: Case) -> tuple[QuantSpec, ConvParams, Array]:
    """What the integers of a quantised case stand for, its weights and its input.

    Raises:
        UnknownName: if the case's kind of data is none of :data:`QUANTIZED_KINDS`.
    """
    if case.data not in QUANTIZED_KINDS:
        raise UnknownName("kind of quantised data", case.data, QUANTIZED_KINDS)
    return quantized.draw_quantized(case.spec, case.input_shape, case.data, case.seed)


def uncompared(case: Case, params: ConvParams) -> NDArray[np.bool_] | None:
    """The mask ``(N, O, *out)`` of outputs not compared, where a non-finite weight meets padding; None if none."""
    return test_data.uncompared(case.spec, params, case.input_shape)
