"""Adapters against the contract: a good one keeps every promise, and each promise can be broken."""

import dataclasses

import numpy as np
import pytest
from convspec_fakes import Fake
from typer.testing import CliRunner

from convspec.cli.app import app
from convspec.conformance.validation import RUNNING, STATIC, Broken, validate
from convspec.contract.plan import Plan, Support
from convspec.contract.protocol import Reading
from convspec.errors import CallError, ShapeError, UnsupportedError
from convspec.spec.dtypes import Gradients

PROMISES = {promise.id: promise for promise in (*STATIC, *RUNNING)}


class Layer:
    def __init__(self, *facts):
        self.facts = facts


@dataclasses.dataclass(frozen=True)
class Whole(Fake):
    """A fake with all that the contract asks for."""

    name: str = "whole"

    def plan(self, spec, layout="NCHW", dtype="float32"):
        if self.support(spec, layout, dtype) == "unsupported":
            raise UnsupportedError(self.support(spec, layout, dtype).reason)
        return Plan(spec, layout, dtype, "layer = 1\n")

    def source(self, spec, layout="NCHW", dtype="float32"):
        return self.plan(spec, layout, dtype).text

    def build(self, spec, params, layout=None, dtype="float32", device="cpu"):
        return Layer(spec, params, dtype, layout or "NCHW")

    def apply(self, layer, x, layout=None, device="cpu"):
        if x.ndim != layer.facts[0].ndim + 2:
            raise ShapeError("rank")
        return super().apply(layer.facts[:3], x, layout, device)

    def gradients(self, layer, x, dy, layout=None, device="cpu"):
        return super().gradients(layer.facts[:3], x, dy, layout, device)

    def owns(self, kind):
        return kind is Layer

    def read(self, layer, input_shape=None):
        spec, params, dtype, layout = layer.facts
        return Reading(spec, params, layout, dtype)

    def convs(self, model, input_shape=None, *, fold_pads=False):
        return []

    def parse(self, call, in_channels=None):
        raise CallError(call, "no")


class WrongName(Whole):
    def with_variant(self, name):
        return self


class NoReason(Whole):
    def support(self, *args, **kwargs):
        return Support("unsupported")


class OtherPlan(Whole):
    def plan(self, spec, layout="NCHW", dtype="float32"):
        raise UnsupportedError("never")


class NoLayer(Whole):
    def plan(self, spec, layout="NCHW", dtype="float32"):
        return dataclasses.replace(super().plan(spec, layout, dtype), text="other = 1\n")


class Changes(Whole):
    def apply(self, layer, x, layout=None, device="cpu"):
        y = super().apply(layer, x, layout, device)
        x[:] = 0
        return y


class OtherLayout(Whole):
    def apply(self, layer, x, layout=None, device="cpu"):
        return np.moveaxis(super().apply(layer, x, layout, device), 1, -1)


class TakesAll(Whole):
    def apply(self, layer, x, layout=None, device="cpu"):
        try:
            return super().apply(layer, x, layout, device)
        except ShapeError:
            return x


class NativeOrder(Whole):
    def gradients(self, layer, x, dy, layout=None, device="cpu"):
        found = super().gradients(layer, x, dy, layout, device)
        return Gradients(found.input, np.moveaxis(found.kernel, 0, -1), found.bias)


class ClaimsAll(Whole):
    def owns(self, kind):
        return True


class Forgets(Whole):
    def read(self, layer, input_shape=None):
        return dataclasses.replace(super().read(layer), spec=layer.facts[0].explicit((2, 3, 9, 9)), layout="NHWC")


class Accepts(Whole):
    def parse(self, call, in_channels=None):
        return call


class Vague(Whole):
    def compute_precision(self, *args, **kwargs):
        return "float32"


@pytest.mark.parametrize("promise", [p for p in PROMISES if p != "light"])
def test_a_whole_adapter_keeps_every_promise(promise):
    PROMISES[promise].check(Whole(), "convspec_fakes:WHOLE")


@pytest.mark.parametrize(
    ("promise", "adapter", "said"),
    [
        ("complete", object(), "the adapter has no name"),
        ("named", WrongName(), "gives another one"),
        ("named", Whole(dtypes=("float31",)), "float31"),
        ("gaps", Whole(gap_text="[[gap]]\nid = 1"), "known_gaps"),
        ("support", NoReason(), "unsupported without a reason"),
        ("support", OtherPlan(), "support says native, but plan raises: never"),
        ("source", NoLayer(), "does not define `layer`"),
        ("precision", Vague(), "returns str, not ComputePrecision"),
        ("parse", Accepts(), "CallError must be raised"),
        ("apply", Changes(), "changes its input"),
        ("apply", OtherLayout(), "has shape .*, expected"),
        ("apply", Whole(fault="wrong dtype", always=True), "float16"),
        ("refuse", TakesAll(), "ShapeError must be raised"),
        ("gradients", NativeOrder(), "expected the canonical"),
        ("owns", ClaimsAll(), "claims int"),
        ("read", Forgets(), "read as"),
    ],
)
def test_each_promise_can_be_broken(promise, adapter, said):
    with pytest.raises(Broken, match=said):
        PROMISES[promise].check(adapter, "convspec_fakes:WHOLE")


def test_an_adapter_that_kills_its_process_breaks_what_was_not_reached():
    checked = {one.id: one for one in validate("convspec_fakes:EXITS")}
    assert checked["named"].kept
    assert not checked["support"].kept  # fakes have no plans
    assert "NotImplementedError" in checked["support"].reason
    crashed = {one.id: one for one in validate("convspec_fakes:DOES_NOT_START")}
    assert crashed["apply"].kept is False
    assert crashed["read"].reason == "the process ended with exit status 7: the library is broken"


def test_an_absent_framework_is_not_tried_and_that_is_no_success():
    checked = {one.id: one for one in validate("convspec_fakes:ABSENT_MODULE")}
    assert checked["apply"].kept is None
    assert "no_such_framework_at_all" in checked["apply"].reason


def test_the_command_says_which_promise_is_broken(capfd):
    done = CliRunner().invoke(app, ["adapters", "--validate", "convspec_fakes:GOOD"])
    assert done.exit_code == 1
    assert "BROKEN" in done.output
    assert "kept" in done.output
    assert CliRunner().invoke(app, ["adapters", "--validate", "trch"]).exit_code == 2
