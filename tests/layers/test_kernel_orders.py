"""The NumPy code that moves kernels, run on every pair of orders, against the adapters' own."""

import numpy as np
import pytest
from convspec_equinox.weights import to_equinox
from convspec_flax.weights import to_flax
from convspec_keras.weights import native as to_keras
from convspec_litert.weights import ORDERS, to_litert
from convspec_mlx.weights import to_mlx
from convspec_ncnn.weights import to_ncnn
from convspec_openvino.weights import to_openvino

from convspec import ConvSpec, adapter, corpora
from convspec.layers import kernel_orders
from convspec.layers.kernel_orders import Stored, canonical, flax, moves

FRAMEWORKS = ("torch", "flax", "keras", "onnx", "equinox", "openvino", "mlx", "litert", "ncnn")
SPECS = list(dict.fromkeys(case.spec for case in corpora.load("features")))


def plan(framework, spec):
    found = adapter(framework)
    return found.plan(spec, found.native_layout)


def arrays(framework, spec, kernel):
    """The kernel as the framework's own adapter gives it to the layer: an array, or a list of them."""
    if framework == "flax":
        return to_flax(kernel, transposed=spec.transposed, groups=spec.groups)
    if framework == "openvino":
        return to_openvino(kernel, spec.groups)
    if framework == "ncnn":
        return to_ncnn(kernel, transposed=spec.transposed, groups=spec.groups)
    if framework == "mlx":
        return to_mlx(kernel, transposed=spec.transposed, groups=spec.groups)
    if framework == "litert":
        kind = next(kind for kind in ORDERS if f'operator("{kind}"' in plan("litert", spec).text)
        return to_litert(kernel, kind) if spec.ndim > 1 else np.squeeze(to_litert(kernel, kind), 1)
    if framework == "equinox":
        return to_equinox(kernel, transposed=spec.transposed, groups=spec.groups)
    if framework == "keras":
        text = plan("keras", spec)
        parts = len(text.convs) or 1
        found = to_keras(kernel, spec.in_channels, parts, depthwise="DepthwiseConv" in text.text)
        return found if parts > 1 else found[0]
    return kernel


def run(code, value):
    names = {"np": np, "kernel": value, "kernels": value}
    exec("\n".join(code), names)
    changed = code[-1].split(" ")[0] if code else "kernel"
    return names[changed]


@pytest.mark.parametrize("source", FRAMEWORKS)
@pytest.mark.parametrize("target", FRAMEWORKS)
def test_kernels_move_as_the_adapters_move_them(source, target):
    moved = 0
    for spec in SPECS:
        if "unsupported" in {adapter(f).support(spec, adapter(f).native_layout) for f in (source, target)}:
            continue
        kernel = np.arange(np.prod(spec.kernel_shape)).reshape(spec.kernel_shape)
        before, after = (kernel_orders.of_plan(spec, f, plan(f, spec).text) for f in (source, target))
        have, wanted = arrays(source, spec, kernel), arrays(target, spec, kernel)
        code = moves(spec, before, after)
        got = run(code, have)
        if isinstance(wanted, list):
            assert len(got) == len(wanted)
            assert all(np.array_equal(a, b) for a, b in zip(got, wanted, strict=True))
            assert {a.shape for a in wanted} == {after.shape(spec)}
        else:
            np.testing.assert_array_equal(got, wanted)
            assert wanted.shape == after.shape(spec)
        moved += bool(code)
    assert bool(moved) == (source != target and {source, target} != {"torch", "onnx"})


def test_flax_default_kernels_are_flipped():
    spec = ConvSpec(2, 3, (2, 3), transposed=True)
    kernel = np.arange(36).reshape(spec.kernel_shape)
    native = np.flip(kernel, (2, 3)).transpose(2, 3, 0, 1)
    code = moves(spec, flax(spec, transpose_kernel=False), canonical(spec))
    np.testing.assert_array_equal(run(code, native), kernel)
    np.testing.assert_array_equal(run(moves(spec, canonical(spec), flax(spec, transpose_kernel=False)), kernel), native)
    assert flax(spec, dilated=True) == Stored("*IO", flipped=True)


def test_axes_are_named_as_they_lie():
    assert canonical(ConvSpec(4, 6, (3, 5), groups=2)).axes(ConvSpec(4, 6, (3, 5), groups=2)) == "(O, I/2, H, W)"
    transposed = ConvSpec(4, 6, (3, 5), groups=2, transposed=True)
    assert canonical(transposed).axes(transposed) == "(I, O/2, H, W)"
    assert kernel_orders.keras(transposed, split=True).axes(transposed) == "(H, W, O/2, I/2)"
    assert kernel_orders.flax(transposed, dilated=True).axes(transposed) == "(H, W, I/2, O)"
    depthwise = ConvSpec(4, 8, (3, 5), groups=4)
    assert kernel_orders.keras(depthwise, depthwise=True).axes(depthwise) == "(H, W, C, M)"
    assert kernel_orders.keras(depthwise, depthwise=True).shape(depthwise) == (3, 5, 4, 2)
