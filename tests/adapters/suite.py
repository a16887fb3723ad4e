"""The laws of the adapter contract, in one body that every adapter's tests inherit with their own layers.

A subclass names its runners (adapters and variants, by a word for the test's id), its layers and, where it differs from
the defaults below, what else it wants tested. Integers make every comparison exact.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convspec import ConvParams, ConvSpec, reference, strategies
from convspec.conformance import gap_ledger
from convspec.contract import Adapter, known_gaps
from convspec.corpora.cases import Case, arrays, gradient_arrays
from convspec.errors import PlacementError, ShapeError, UnsupportedError
from convspec.spec import layouts

GOLDEN = Path(__file__).parents[1] / "golden"
NATIVE, COMPOSED, UNSUPPORTED = "native", "composed", "unsupported"
ABSENT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
import convspec
from convspec.errors import FrameworkAbsent
adapter = convspec.adapter({adapter!r})
print(adapter.support(convspec.ConvSpec(1, 1, (1, 1)), adapter.native_layout))
try:
    adapter.devices()
except FrameworkAbsent as error:
    print(error.name)
"""


def to_layout(array: np.ndarray, layout: str) -> np.ndarray:
    """A canonical array in the order of the layout, contiguous."""
    ndim = array.ndim - 2
    return np.ascontiguousarray(array.transpose(layouts.permutation("NC*", layouts.order(layout, ndim), ndim)))


def to_canonical(array: np.ndarray, layout: str) -> np.ndarray:
    """An array of the layout in canonical order."""
    ndim = array.ndim - 2
    return array.transpose(layouts.permutation(layouts.order(layout, ndim), "NC*", ndim))


def sized(
    specs: Mapping[str, ConvSpec], composed: Container[str] = ()
) -> dict[str, tuple[ConvSpec, tuple[int, ...], str]]:
    """Entries of ``layers`` for specs: odd input sizes that differ from axis to axis."""
    sizes = (7, 9, 11)
    return {
        name: (spec, (2, spec.in_channels, *sizes[: spec.ndim]), COMPOSED if name in composed else NATIVE)
        for name, spec in specs.items()
    }


def run(adapter: Adapter, case: Case) -> np.ndarray:
    """The layer's output in canonical order."""
    params, x = arrays(case)
    layer = adapter.build(case.spec, params, case.layout, case.dtype)
    return to_canonical(adapter.apply(layer, to_layout(x, case.layout), case.layout), case.layout)


@functools.cache
def gaps_of(adapter: Adapter) -> tuple[known_gaps.Gap, ...]:
    return known_gaps.applying(adapter, adapter.versions())


def covering(adapter: Adapter, case: Case, direction: str = "forward") -> list[known_gaps.Gap]:
    """The declared gaps that match the case."""
    support = adapter.support(case.spec, case.layout, case.dtype)
    about = {"support": str(support), "adapter": adapter.name, "variant": adapter.variant, "direction": direction}
    features = gap_ledger.features(case, **about)
    return [gap for gap in gaps_of(adapter) if gap.when(features)]


def outcome(adapter: Adapter, case: Case) -> tuple[str, str]:
    """Verdict and reason: the output equals the oracle's bit for bit; where the oracle raises, the adapter has to."""
    params, x = arrays(case)
    try:
        expected = reference.conv(case.spec, params, x)
    except ShapeError:
        expected = None
    try:
        y = run(adapter, case)
    except Exception as error:  # noqa: BLE001 – whatever is raised is the outcome
        return ("agree", "") if expected is None else ("error", str(error))
    if expected is None:
        return "disagree", "returned a result, expected an error"
    if y.shape != expected.shape:
        return "disagree", f"shape {y.shape}, expected {expected.shape}"
    if y.dtype != x.dtype:
        return "disagree", f"dtype {y.dtype}, expected {x.dtype}"
    if not np.array_equal(y, expected):
        return "disagree", f"numbers differ: {y.ravel()[:8]}…, expected {expected.ravel()[:8]}…"
    return "agree", ""


def check(adapter: Adapter, case: Case) -> None:
    """Assert that the case agrees, or that it fails as a declared gap says."""
    verdict, reason = outcome(adapter, case)
    gaps = covering(adapter, case)
    if gaps:
        assert any(gap.covers(verdict, reason) for gap in gaps), (gaps[0].id, verdict, reason)
    else:
        assert verdict == "agree", reason


def assert_exact(adapter: Adapter, case: Case) -> None:
    """Assert that no gap covers the case, and that it agrees."""
    assert outcome(adapter, case) == ("agree", "")
    assert not covering(adapter, case)
    assert np.any(reference.conv(case.spec, *arrays(case))), "zeros would prove nothing"


def assert_golden(path: Path, text: str) -> None:
    """Assert that the file holds the text; CONVSPEC_UPDATE_GOLDEN=1 writes it anew, for a person to read."""
    if os.environ.get("CONVSPEC_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def run_python(code: str, *options: str) -> str:
    """What the code prints in a process of its own."""
    command = [sys.executable, *options, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class AdapterSuite:
    """Inherit as ``class TestLayers(AdapterSuite)`` and fill in the attributes without a value."""

    runners: ClassVar[Mapping[str, Adapter]]
    layers: ClassVar[Mapping[str, tuple[ConvSpec, tuple[int, ...], str]]]  # input shape; support in the native layout
    layers_in_gaps: ClassVar[Container[tuple[str, str]]] = ()  # (runner, layer): fails as a declared gap says
    other_layout_reason: ClassVar[str]  # in the reason for support in the layout that is not native; "" if native too
    packages: ClassVar[Iterable[tuple[str, str]]]  # (adapter's name, package without which it has no framework)
    wrong_tensors: ClassVar[Iterable[tuple[str, str, tuple[int, ...], str]]]
    """(layout of ConvSpec(3, 4, (3, 5)), layout claimed, shape, words of the ShapeError)"""

    goldens: ClassVar[
        Mapping[str, tuple[str, str, str, str]]
    ] = {}  # file below golden/: (runner, layer, layout, dtype)
    differentiable: ClassVar[bool] = True  # else it must say so
    unreliable: ClassVar[Callable[[Case], bool]] = staticmethod(lambda case: False)
    """Whether the framework's numbers depend on the processor, as a divergence page says: no gap can declare that."""

    gradient_layers: ClassVar[Iterable[str] | None] = None  # None: all
    dtype_runs: ClassVar[Iterable[tuple[str, str, str, str]]]  # the same
    resized_layers: ClassVar[Iterable[str] | None] = None  # None: all
    empty_batches: ClassVar[Iterable[str] | None] = None  # None: all
    gap_examples: ClassVar[Mapping[str, Iterable[Case]]] = {}
    tensor_layouts: ClassVar[Iterable[str]] = layouts.LAYOUTS
    absent_devices: ClassVar[Iterable[str]] = ("cuda", "cuda:1", "tpu")
    examples: ClassVar[int] = 40  # random layers for each runner
    sizes: ClassVar[Mapping[str, int]] = {}  # of strategies.cases
    dtypes: ClassVar[Iterable[str]] = ("float32",)  # of the random layers

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        cls = metafunc.cls
        every = list(cls.layers)
        choices = {
            "runner": cls.runners, "name": every, "layout": cls.tensor_layouts, "golden": cls.goldens,
            "gradient_layer": every if cls.gradient_layers is None else cls.gradient_layers,
            "resized": every if cls.resized_layers is None else cls.resized_layers,
            "empty": every if cls.empty_batches is None else cls.empty_batches,
            "dtype_run": cls.dtype_runs, "wrong": cls.wrong_tensors, "absent": cls.packages,
            "gap": cls.gap_examples, "absent_device": cls.absent_devices,
        }  # fmt: skip
        for argument, values in choices.items():
            if argument in metafunc.fixturenames:
                ids = ["-".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in values]
                metafunc.parametrize(argument, list(values), ids=ids)

    def test_numbers(self, runner: str, name: str, layout: str) -> None:
        spec, shape, _ = self.layers[name]
        adapter, case = self.runners[runner], Case(spec, shape, layout, seed=3)
        if (runner, name) in self.layers_in_gaps:
            assert covering(adapter, case)
            check(adapter, case)
        else:
            assert_exact(adapter, case)

    def test_other_dtypes(self, dtype_run: tuple[str, str, str, str]) -> None:
        runner, name, layout, dtype = dtype_run
        spec, shape, _ = self.layers[name]
        assert self.runners[runner].support(spec, layout, dtype) != UNSUPPORTED
        check(self.runners[runner], Case(spec, shape, layout, dtype, seed=1))

    def test_gradients(self, runner: str, gradient_layer: str, layout: str) -> None:
        adapter, (spec, shape, _) = self.runners[runner], self.layers[gradient_layer]
        case = Case(spec, shape, layout, seed=7)
        params, x, dy = gradient_arrays(case)
        layer = adapter.build(spec, params, layout)
        tensors = to_layout(x, layout), to_layout(dy, layout)
        if not self.differentiable:
            with pytest.raises(UnsupportedError, match="forward only"):
                adapter.gradients(layer, *tensors, layout)
            return
        try:
            gradients = adapter.gradients(layer, *tensors, layout)
        except UnsupportedError as error:  # on some processors
            if any(gap.covers("unsupported", str(error)) for gap in covering(adapter, case, "kernel")):
                return
            raise
        expected = reference.gradients(spec, params, x, dy)
        np.testing.assert_array_equal(to_canonical(gradients.input, layout), expected.input)
        np.testing.assert_array_equal(gradients.kernel, expected.kernel)
        assert (gradients.bias is None) == (expected.bias is None) == (not spec.bias)
        if expected.bias is not None:
            np.testing.assert_array_equal(gradients.bias, expected.bias)

    def test_any_layer(self, runner: str) -> None:
        adapter = self.runners[runner]

        @settings(max_examples=self.examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            strategies.cases(**self.sizes),
            st.sampled_from(list(self.tensor_layouts)),
            st.sampled_from(list(self.dtypes)),
        )
        def any_layer(case: Case, layout: str, dtype: str) -> None:
            shape = layouts.shape_in(case.input_shape, layout, case.spec.ndim)
            drawn = case.varied(layout=layout, dtype=dtype)
            if adapter.support(case.spec, layout, dtype, "cpu", shape) != UNSUPPORTED and not self.unreliable(drawn):
                check(adapter, drawn)

        any_layer()

    def test_support(self, runner: str, name: str, layout: str) -> None:
        adapter, (spec, shape, kind) = self.runners[runner], self.layers[name]
        support = adapter.support(spec, layout)
        if layout == adapter.native_layout:
            assert support == kind
        elif self.other_layout_reason:
            assert support == COMPOSED
            assert self.other_layout_reason in support.reason
        assert bool(support.reason) == (support == COMPOSED)
        assert adapter.support(spec, layout, input_shape=layouts.shape_in(shape, layout, spec.ndim)) == support

    def test_an_empty_batch(self, runner: str, empty: str) -> None:
        adapter, (spec, shape, _) = self.runners[runner], self.layers[empty]
        check(adapter, Case(spec, (0, *shape[1:]), adapter.native_layout))

    def test_one_layer_serves_every_size(self, runner: str, resized: str, layout: str) -> None:
        adapter, (spec, shape, _) = self.runners[runner], self.layers[resized]
        params, _ = arrays(Case(spec, shape))
        layer = adapter.build(spec, params, layout)
        for grown in (shape, (1, *shape[1:-1], shape[-1] + 1), (3, *shape[1:-1], shape[-1] + 5)):
            case = Case(spec, grown, layout)
            if covering(adapter, case):
                check(adapter, case)
                continue
            x = arrays(case)[1]
            y = adapter.apply(layer, to_layout(x, layout), layout)
            np.testing.assert_array_equal(to_canonical(y, layout), reference.conv(spec, params, x))

    def test_the_callers_weights_are_copied(self, runner: str) -> None:
        adapter, spec = self.runners[runner], ConvSpec(1, 1, 1, bias=False)
        kernel = np.full((1, 1, 1, 1), 3, np.float32)
        layer = adapter.build(spec, ConvParams(kernel))
        kernel[:] = 5
        assert set(
            np.ravel(adapter.apply(layer, to_layout(np.ones((1, 1, 2, 3), np.float32), adapter.native_layout)))
        ) == {3}
        assert kernel.item() == 5

    def test_golden_source(self, golden: str) -> None:
        runner, name, layout, dtype = self.goldens[golden]
        assert_golden(GOLDEN / golden, self.runners[runner].source(self.layers[name][0], layout, dtype))

    def test_a_tensor_in_the_wrong_layout(self, runner: str, wrong: tuple[str, str, tuple[int, ...], str]) -> None:
        built, claimed, shape, words = wrong
        spec = ConvSpec(3, 4, (3, 5))
        layer = self.runners[runner].build(spec, ConvParams.random(spec), built)
        with pytest.raises(ShapeError, match=words):
            self.runners[runner].apply(layer, np.zeros(shape, np.float32), claimed)

    def test_four_spatial_axes_are_unsupported(self, runner: str) -> None:
        spec = ConvSpec(1, 1, (1, 1, 1, 1))
        support = self.runners[runner].support(spec)
        assert support == UNSUPPORTED
        assert "4 spatial axes" in support.reason
        with pytest.raises(UnsupportedError, match="4 spatial axes"):
            self.runners[runner].plan(spec)

    def test_an_absent_device(self, runner: str, absent_device: str) -> None:
        adapter, spec = self.runners[runner], ConvSpec(2, 3, 2)
        if absent_device.startswith("cuda") and "cuda" in adapter.devices():
            pytest.skip("CUDA is available")
        x = to_layout(np.zeros((1, 2, 4, 5), np.float32), adapter.native_layout)
        with pytest.raises(PlacementError, match=absent_device):
            adapter.apply(adapter.build(spec, ConvParams.random(spec), device=absent_device), x, device=absent_device)
        with pytest.raises(PlacementError, match=absent_device):
            adapter.apply(adapter.build(spec, ConvParams.random(spec)), x, device=absent_device)

    def test_an_absent_framework(self, absent: tuple[str, str]) -> None:
        adapter, missing = absent
        assert run_python(ABSENT.format(adapter=adapter, missing=missing)).split() == [NATIVE, missing]

    def test_gaps(self, gap: str) -> None:
        """Each example of a declared gap fails as the gap says."""
        declared = {(runner, g) for runner, adapter in self.runners.items() for g in gaps_of(adapter) if g.id == gap}
        every = {g.id for adapter in self.runners.values() for g in known_gaps.declared(adapter)}
        assert gap in every, f"no runner declares {gap}"
        if not declared:
            pytest.skip("this processor does not have the gap")
        for case in self.gap_examples[gap]:
            for runner, one in declared:
                assert one in covering(self.runners[runner], case), case
                assert one.covers(*outcome(self.runners[runner], case)), (case, outcome(self.runners[runner], case))
