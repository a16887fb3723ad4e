"""A fault of a real framework: without oneDNN, PyTorch computes batches of 16 by Winograd's algorithm."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import torch
from convspec import Case, ConvSpec, adapter, reference
from convspec.corpora import arrays
from convspec.reference import judge, products

torch.backends.mkldnn.enabled = sys.argv[1] == "on"
torch.manual_seed(0)
case = Case(ConvSpec(16, 16, 3, padding=1), (16, 16, 16, 16), data=sys.argv[2])
params, x = arrays(case)
ours = adapter("torch")
y = ours.apply(ours.build(case.spec, params, "NCHW", "float32", "cpu"), x, "NCHW", "cpu")
print(judge(
    y, reference.conv(case.spec, params, x), reference.magnitude(case.spec, params, x), dtype="float32", data=case.data,
    products=products(case.spec), arithmetic=ours.compute_precision(case.spec),
).verdict)
"""


def verdict(onednn, data):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, onednn, data], capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout.strip()


@pytest.mark.torch
@pytest.mark.parametrize("data", ["exact", "wide"])
def test_winograd_is_caught_and_a_direct_convolution_is_not(data):
    assert verdict("on", data) == "agree"
    assert verdict("off", data) == "disagree"
