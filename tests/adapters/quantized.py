"""Quantised layers on an adapter: the verdicts of a corpus, without worker processes."""

import dataclasses

import numpy as np

from convspec import Case, ConvSpec, corpora
from convspec.conformance.checks.checks import outcomes
from convspec.conformance.checks.expected import Given
from convspec.conformance.results import Result
from convspec.conformance.roundings import count_roundings
from convspec.conformance.trials.work_plan import Target, Trial, Unit
from convspec.contract import known_gaps
from convspec.corpora import QUANTIZED_KINDS, quantized_arrays

VNNI = bool({"avx512_vnni", "avx_vnni"} & known_gaps.processor_features())
PAIRS_SATURATE = "avx2" in known_gaps.processor_features() and not VNNI
"""Whether ONNX Runtime adds two products of uint8 data and int8 weights in 16 bits."""


def check(adapter, cases, layout):
    """The results on these cases."""
    found = []
    for index, case in enumerate(cases):
        unit = Unit(index, case, Target(adapter.name), (Trial(layout, case.data),))
        (one,) = outcomes(adapter, unit, Given({}))
        parts = (one.support, one.support_reason, one.verdict, one.reason, None, one.evidence, None, one.seconds)
        name = f"{adapter.name}:{adapter.variant}"
        found.append(Result(unit.case_of(one.trial), adapter.name, name, adapter.variant, "shipped", *parts))
    return found


def assert_clipped(adapter, activation, layout):
    """An activation clips between its ends: inputs of large steps reach both, and what lies between."""
    case = Case(ConvSpec(3, 5, 3), (1, 3, 9, 8), data="int8")
    quant, params, x = quantized_arrays(case)
    step = 0.05
    shrunk = quant.input_scale * step / quant.output_scale
    quant = dataclasses.replace(quant, activation=activation, output_scale=step, input_scale=shrunk)
    (form,) = adapter.quantized(case.spec, quant, params, layout)
    y = form.run(x if layout == "NCHW" else np.moveaxis(x, 1, -1))
    assert (y.min(), y.max()) == quant.limits
    assert len(np.unique(y)) > 2


def check_corpus(adapter, layout, seeds=(0,)):
    """The results on the corpus ``quantised``; every one of them agrees or is unsupported with a reason."""
    results = check(adapter, [case for case in corpora.load("quantised") if case.seed in seeds], layout)
    wrong = [result for result in results if result.verdict not in ("agree", "unsupported")]
    assert all(result.reason for result in results if result.verdict == "unsupported")
    return results, wrong


def rules(results):
    """The rules that explain every output, by operator, kind of layer and type."""
    return {key[1:]: row.rules for key, row in count_roundings(results).items()}


def total(results):
    return sum(row.outputs for row in count_roundings(results).values())


__all__ = ["PAIRS_SATURATE", "QUANTIZED_KINDS", "check", "check_corpus", "rules", "total"]
