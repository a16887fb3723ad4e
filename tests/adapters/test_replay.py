"""The recorded results of one framework, compared with another's; each runs in its own worker processes."""

import pytest

import convspec
from convspec import corpora

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.onnx  # the last of the frameworks that it needs


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("record")
    cases = [case.varied(dtype=dtype) for case in corpora.load("tutorial") for dtype in ("float32", "bfloat16")]
    report = convspec.check(cases, ["torch"], gradients=True, record=folder)
    assert not report.unexpected
    return folder, len(report.results)


def test_pytorch_repeats_itself_bit_for_bit(record):
    folder, number = record
    report = convspec.replay(folder)
    assert report.summary["agree"] == len(report.results) == number
    assert {result.evidence["recorded"]["differing"] for result in report.results} == {0}


def test_onnx_runtime_agrees_with_pytorch_within_the_errors_of_both(record):
    report = convspec.replay(record[0], ["onnx"])
    forward = [r for r in report.results if r.direction == "forward" and r.case.dtype == "float32"]
    assert [result.verdict for result in forward] == ["agree"] * 12
    equal = [result.evidence["recorded"]["differing"] == 0 for result in forward if result.case.data == "exact"]
    assert all(equal)
    assert not report.unexpected
