"""Pools and resizing."""

from __future__ import annotations

from typing import Any

import numpy as np

from convspec.contract.tracing import NoWord, OperatorStep
from convspec.spec import steps
from convspec_onnx.steps.operation import FIRST, Builder, Operation, plain

_AUTO_PAD = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}


def _window(call: Operation) -> dict[str, Any]:
    """Return the fields that all pools with a window have."""
    given, kernel = call.attributes, call.attributes["kernel_shape"]
    ndim = len(kernel)
    flat = given.get("pads") or (0,) * 2 * ndim
    pads: Any = tuple((flat[i], flat[i + ndim]) for i in range(ndim))
    return {
        "kernel_size": kernel,
        "stride": given.get("strides") or (1,) * ndim,
        "padding": _AUTO_PAD.get(given.get("auto_pad", ""), pads),
        "dilation": given.get("dilations") or (1,) * ndim,
        "ceil_mode": bool(given.get("ceil_mode", 0)),
    }


def _max(call: Operation) -> OperatorStep:
    note = "it returns the positions of the maxima too" if len(call.results) > 1 else ""
    return OperatorStep(steps.MaxPool(**_window(call)), layout=FIRST, note=note)


def _average(call: Operation) -> OperatorStep:
    counted = bool(call.attributes.get("count_include_pad", 0))
    return OperatorStep(steps.AveragePool(**_window(call), count_include_pad=counted), layout=FIRST)


def _lp(call: Operation) -> OperatorStep:
    return OperatorStep(steps.LpPool(**_window(call), p=float(call.attributes.get("p", 2))), layout=FIRST)


def _global(reduction: str) -> Builder:
    def build(call: Operation) -> OperatorStep:
        return OperatorStep(steps.GlobalPool(reduction, p=float(call.attributes.get("p", 2))), layout=FIRST)

    return build


def _resize(call: Operation) -> OperatorStep:
    given = call.attributes
    coordinates, mode = given.get("coordinate_transformation_mode", "half_pixel"), given.get("mode", "nearest")
    if coordinates == "tf_crop_and_resize":
        raise NoWord(f"by {coordinates}")
    step = steps.Resize(
        **_target(call, 2, 3),
        mode=mode,
        coordinates=coordinates,
        rounding=given.get("nearest_mode", "round_prefer_floor"),
        cubic_coefficient=plain(np.float32(given.get("cubic_coeff_a", -0.75))),
        exclude_outside=bool(given.get("exclude_outside", 0)),
        antialias=bool(given.get("antialias", 0)),
    )
    return OperatorStep(step, layout=FIRST)


def _target(call: Operation, scales: int, sizes: int) -> dict[str, Any]:
    """Return the size or the scale of the spatial axes."""
    if call.x.ndim < 3 or call.x.shape[:2] != call.y.shape[:2]:
        raise NoWord("of other axes than the spatial ones")
    if call.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return {"size": call.y.shape[2:]}
    name, number = ("scale", scales) if call.has(scales) and call.value(scales).size else ("size", sizes)
    values = [n.item() for n in call.constant(number).reshape(-1)]
    axes = call.attributes.get("axes") or range(call.x.ndim)
    own: dict[int, Any] = dict(zip((axis % call.x.ndim for axis in axes), values, strict=True))
    other = [1.0] * call.x.ndim if name == "scale" else list(call.x.shape)
    return {name: tuple(own.get(axis, other[axis]) for axis in range(2, call.x.ndim))}


def _upsample(call: Operation) -> OperatorStep:
    if "scales" in call.attributes:
        scale = tuple(call.attributes["scales"])[2:]
    else:
        scale = tuple(n.item() for n in call.constant(1).reshape(-1))[2:]
    if call.x.shape[:2] != call.y.shape[:2]:
        raise NoWord("of other axes than the spatial ones")
    mode = call.attributes.get("mode", "nearest")
    return OperatorStep(steps.Resize(scale=scale, mode=mode, coordinates="asymmetric", rounding="floor"), layout=FIRST)


TABLE: dict[str, Builder] = {
    "MaxPool": _max, "AveragePool": _average, "LpPool": _lp, "Resize": _resize, "Upsample": _upsample,
    "GlobalMaxPool": _global("max"), "GlobalAveragePool": _global("average"), "GlobalLpPool": _global("lp"),
}  # fmt: skip
