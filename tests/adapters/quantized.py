"""Quantised layers on an adapter: the verdicts of a corpus, without worker processes."""

from convspec import corpora
from convspec.conformance.checks.checks import outcomes
from convspec.conformance.checks.expected import Given
from convspec.conformance.results import Result
from convspec.conformance.roundings import count_roundings
from convspec.conformance.trials.work_plan import Target, Trial, Unit
from convspec.corpora import QUANTIZED_KINDS


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


__all__ = ["QUANTIZED_KINDS", "check", "check_corpus", "rules", "total"]
