"""A sample of random pairs of models for each framework's suite; ``scripts/model_pairs.py`` runs thousands."""

from __future__ import annotations

from tests.pairs import judge, targets


def assert_right(target: str, *seeds: int) -> None:
    """Check that pairs are ported, and agree."""
    for seed in seeds:
        record = judge.judge_right(seed, target, targets.writer(target))
        assert not record.skipped, record
        assert not record.fault, record


def assert_named(target: str, kind: str, seed: int = 0) -> None:
    """Check that a planted mistake is found at its place and named first."""
    record = judge.judge_planted(seed, kind, target, targets.writer(target))
    assert not record.skipped, record
    assert not record.fault, record
