"""Computation that is coarser than the numbers' own format."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from convspec.diagnosis.faulty_layer import Array, Layer, Variants, derive
from convspec.diagnosis.mistakes.catalogue import mistake
from convspec.reference import STATISTICAL_MINIMUM
from convspec.spec import ComputePrecision, ConvParams, format_of, rounded


def _truncate(values: Array, name: str) -> Array:
    """Truncate ``values`` to the digits of the format, as some hardware does."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    mask = np.uint32(0xFFFFFFFF ^ ((1 << (24 - format_of(name).digits)) - 1))
    return (bits & mask).view(np.float32).astype(np.float64)


def _round(values: Array, name: str) -> Array:
    return np.asarray(rounded(values, name), np.float64)


def _flush(values: Array, least: float) -> Array:
    return np.where(np.abs(values) < least, 0.0, values)


def _coarse_inputs(layer: Layer, name: str) -> Variants:
    kernel, bias = layer.params.kernel, layer.params.bias
    whole = derive(kernel, _round, name)
    coarse = replace(layer, x=derive(layer.x, _round, name), params=ConvParams(whole, bias))
    yield f"input and kernel rounded to {name}", coarse
    if name != "float16":
        params = ConvParams(derive(kernel, _truncate, name), bias)
        yield f"input and kernel truncated to {name}", replace(layer, x=derive(layer.x, _truncate, name), params=params)
    if bias is not None:
        params = ConvParams(whole, _round(bias, name))
        yield f"input, kernel and bias rounded to {name}", replace(coarse, params=params)


@mistake(
    "The products are computed in TF32", frameworks=("torch", "keras", "flax", "onnx"),
    explanation="NVIDIA's tensor cores round float32 inputs to 11 significant bits; cuDNN convolutions do so by "
                "default in PyTorch, TensorFlow, JAX and ONNX Runtime.",
    fix="Disable it to compare: torch.backends.cudnn.allow_tf32 = False, jax_default_matmul_precision='highest'.",
    threads=("pytorch/pytorch/issues/107514", "pytorch/pytorch/issues/129649", "IBM/aihwkit/issues/766"),
)  # fmt: skip
def tf32_inputs(layer: Layer) -> Variants:
    yield from _coarse_inputs(layer, "tf32")


@mistake(
    "The products are computed in bfloat16", frameworks=("flax", "torch", "keras"),
    explanation="TPUs round float32 inputs to 8 significant bits by default; CPUs with AMX do so on request.",
    fix="Set precision='highest' (JAX), or torch.backends.mkldnn.conv.fp32_precision = 'ieee'.",
    threads=("jax-ml/jax/issues/7010", "jax-ml/jax/issues/9973", "pytorch/pytorch/issues/148973"),
)  # fmt: skip
def bfloat16_inputs(layer: Layer) -> Variants:
    yield from _coarse_inputs(layer, "bfloat16")


@mistake(
    "The products are computed in float16", frameworks=("onnx", "torch"),
    explanation="Core ML, TensorRT and mobile runtimes convert float32 networks to float16 by default.",
    fix="Request float32 (compute_precision=FLOAT32), or compare with a float16 layer.",
    threads=("apple/coremltools/issues/2110", "apple/coremltools/issues/1671", "NVIDIA/TensorRT/issues/1761"),
)  # fmt: skip
def float16_inputs(layer: Layer) -> Variants:
    yield from _coarse_inputs(layer, "float16")


@mistake(
    "The weights were stored in a coarser format", frameworks=("torch", "onnx", "keras", "flax"),
    explanation="A half-precision checkpoint was loaded into a float32 layer: the input is exact, the kernel is not.",
    fix="Load the float32 checkpoint, or compare with the rounded weights.",
    threads=("apple/coremltools/issues/2603", "vladmandic/sdnext/issues/1978"),
)  # fmt: skip
def weights_rounded(layer: Layer) -> Variants:
    kernel, bias = layer.params.kernel, layer.params.bias
    for name in ("float16", "bfloat16", "tf32"):
        coarse = layer.with_kernel(derive(kernel, _round, name))
        yield f"the kernel rounded to {name}", coarse
        if bias is not None:
            yield f"kernel and bias rounded to {name}", coarse.with_bias(_round(bias, name))


@mistake(
    "The weights are quantised to eight bits", frameworks=("onnx", "torch", "keras"),
    explanation="Symmetric quantisation has 255 levels, with one scale for all weights or one per channel.",
    fix="Compare with the dequantised weights.",
    threads=("microsoft/onnxruntime/issues/24711", "microsoft/onnxruntime/issues/19694"),
)  # fmt: skip
def weights_quantised(layer: Layer) -> Variants:
    kernel = layer.params.kernel
    for what, axes in (
        ("one scale", tuple(range(kernel.ndim))),
        ("a scale for each index of the first axis", tuple(range(1, kernel.ndim))),
        ("a scale for each index of the second axis", (0, *range(2, kernel.ndim))),
    ):
        scale = np.max(np.abs(kernel), axis=axes, keepdims=True, initial=0.0) / 127
        safe = np.where(scale > 0, scale, 1.0)
        yield f"the kernel in int8, {what}", layer.with_kernel(np.rint(kernel / safe) * safe)


@mistake(
    "The output was stored in a coarser format", frameworks=("torch", "onnx", "flax", "keras"),
    explanation="The layer is right, but its output passed through a 16-bit tensor (mixed precision, autocast).",
    fix="Keep the output in float32 for the comparison.",
    threads=("apple/coremltools/issues/2110", "jax-ml/jax/issues/25873"),
)  # fmt: skip
def output_rounded(layer: Layer) -> Variants:
    for name in ("float16", "bfloat16"):
        yield f"the output rounded to {name}", replace(layer, finish=partial(_round, name=name))


@mistake(
    "Numbers below the smallest normal one are taken for zero", frameworks=("flax", "keras", "torch", "onnx"),
    explanation="Processors that flush subnormals lose the smallest inputs and weights; in float16, those below 6e-5.",
    fix="Scale the data, or disable flushing.",
    threads=("pytorch/pytorch/issues/58123", "apple/coremltools/issues/2110"),
)  # fmt: skip
def subnormals_flushed(layer: Layer) -> Variants:
    for name in ("float32", "float16"):
        least = format_of(name).smallest_normal
        x, kernel = (derive(a, _flush, least) for a in (layer.x, layer.params.kernel))
        wrong = replace(layer.with_kernel(kernel), x=x)
        yield f"numbers below {least:.2g}, subnormal in {name}, flushed to zero", wrong


@mistake(
    "The sums are accumulated in 16 bits", frameworks=("torch", "onnx", "flax"),
    explanation="Each addition rounds, so errors grow with the number of products. The order of the additions is "
                "unknown: the format and the size of the errors identify the mistake, not the single numbers.",
    fix="Request float32 accumulation.",
    threads=("pytorch/pytorch/issues/163347", "jax-ml/jax/issues/25873", "ROCm/rocm-libraries/issues/3508"),
    fitted=True,
)  # fmt: skip
def coarse_accumulation(layer: Layer, output: Array, actual: Array) -> Variants:
    # the bound is so wide that much would fit it: the statistics have to decide, and the format of the numbers
    if output.size >= STATISTICAL_MINIMUM and np.isfinite(actual).all():
        for name in ("float16", "bfloat16"):
            if np.array_equal(_round(actual, name), actual):
                yield f"the sums in {name}", replace(layer, dtype=name, arithmetic=ComputePrecision(name))
