"""Cases: one layer, one input, and everything else that decides the numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from hashlib import sha256
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from convspec.errors import SpecError
from convspec.spec import DTYPES, ConvSpec, layouts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convspec.spec import ConvParams

    Array = NDArray[np.floating[Any]]

DATA_KINDS = ("exact", "random", "cancellation", "wide", "one_sign", "nonfinite", "nonfinite_kernel")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


# what need not be given: the rule that it follows in JSON, in words and as a test
_FREE: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "layout": ("be a string", _is_text),
    "dtype": (f"be one of {', '.join(DTYPES)}", DTYPES.__contains__),
    "device": ("be a string", _is_text),
    "data": (f"be one of {', '.join(DATA_KINDS)}", DATA_KINDS.__contains__),
    "seed": ("be an int, at least 0", lambda value: type(value) is int and value >= 0),
    "name": ("be a string", _is_text),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to check: its arrays come from the seed, so a case travels as a line of JSON.

    Attributes:
        spec: the layer.
        input_shape: canonical, ``(N, C, *spatial)``, whatever the layout.
        layout: ``"NCHW"`` or ``"NHWC"``: the layout that the adapter is given the tensors in.
        dtype: name of the format of input, weights and output.
        device: ``"cpu"``, ``"cuda"``, ….
        data: kind of data, one of :data:`DATA_KINDS`; see :mod:`convspec.corpora.test_data`.
        seed: of the arrays.
        name: free text, for people; not part of the case's identity.
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
        return Case, _VALUES(self)  # runs keep thousands pickled, and a dataclass's own way is slow

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of spec, input shape and seed: the same on every machine."""
        return _id(self.spec, self.input_shape, self.seed)

    def varied(self, **changes: Any) -> Case:
        """The same case with other values of some fields."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; :meth:`from_dict` reads it back."""
        return {
            "spec": self.spec.to_dict(),
            "input_shape": list(self.input_shape),
            "layout": self.layout,
            "dtype": self.dtype,
            "device": self.device,
            "data": self.data,
            "seed": self.seed,
            "name": self.name,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Case:
        """The case that a mapping describes; ``spec`` and ``input_shape`` are needed, unknown keys are left alone.

        Raises:
            SpecError: one sentence for each field that breaks a rule.
            UnknownName: for a layout that there is not with so many axes.
        """
        problems = [f"{key} must be given" for key in ("spec", "input_shape") if key not in data]
        shape = data.get("input_shape", ())
        if not isinstance(shape, list | tuple) or not all(type(n) is int and n >= 0 for n in shape):
            problems.append(f"input_shape={shape!r} must be a list of ints, none negative")
        if problems:
            raise SpecError(problems)
        spec = ConvSpec.from_dict(data["spec"])
        if len(shape) != spec.ndim + 2 or shape[1] != spec.in_channels:
            raise SpecError([f"input_shape={list(shape)} must be (N, {spec.in_channels}, {spec.ndim} spatial sizes)"])
        known = {k: data[k] for k in _FREE if k in data}
        if problems := [f"{k}={v!r} must {_FREE[k][0]}" for k, v in known.items() if not _FREE[k][1](v)]:
            raise SpecError(problems)
        if "layout" in known:
            known["layout"] = layouts.family(known["layout"], spec.ndim)
        return cls(spec, tuple(shape), **known)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_dict(), separators=(",", ":"))


_VALUES = attrgetter(*(entry.name for entry in fields(Case)))


@lru_cache(maxsize=1024)
def _id(spec: ConvSpec, input_shape: tuple[int, ...], seed: int) -> str:
    text = json.dumps([spec.to_dict(), list(input_shape), seed], separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:12]


def arrays(case: Case) -> tuple[ConvParams, Array]:
    """Weights and input of a case: canonical order, in the dtype's carrier, from the seed alone.

    Raises:
        UnknownName: if the case's kind of data is none of :data:`DATA_KINDS`.
    """
    from convspec.corpora import test_data as data

    return data.forward(case.spec, case.input_shape, case.data, case.dtype, case.seed)


def gradient_arrays(case: Case) -> tuple[ConvParams, Array, Array]:
    """Weights, input and dy of a case, for its gradients; exact data make all three gradients exact.

    Raises:
        UnknownName: if there are no gradients for the case's kind of data.
        ShapeError: where the layer has no output.
    """
    from convspec.corpora import test_data as data

    return data.gradient(case.spec, case.input_shape, case.data, case.dtype, case.seed)


def uncompared(case: Case, params: ConvParams) -> NDArray[np.bool_] | None:
    """The outputs ``(N, O, *out)`` that are not compared, because a non-finite weight meets padding; None if none."""
    from convspec.corpora import test_data as data

    return data.uncompared(case.spec, params, case.input_shape)
