"""Random networks that PyTorch exported: right graphs are accepted, planted faults are seen, named and repaired."""

from __future__ import annotations

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from tests.pairs import export

pytestmark = [pytest.mark.onnx, pytest.mark.torch, pytest.mark.slow]


@pytest.mark.parametrize("seed", [9, 2, 41, 7])  # as exported, optimised, quantised before a batch norm, dynamically
def test_a_right_export_is_accepted(seed, tmp_path):
    record = export.judge_right(seed, tmp_path)
    assert not record["skipped"]
    assert not record["fault"], record["said"]


@pytest.mark.parametrize("kind", ["kernel flipped", "bias lost", "scale of a channel doubled"])
def test_a_planted_fault_is_seen_named_and_repaired(kind, tmp_path):
    record = export.judge_planted(35, kind, tmp_path)
    assert not record["skipped"]
    assert not record["fault"], record["said"]
