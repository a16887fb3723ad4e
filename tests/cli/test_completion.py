"""What the tab key gives: asked of the command as a shell asks it."""

import os

import pytest

from tests import prepared


def offered(*words):
    """What bash is told behind these words, the last of which is not finished."""
    environment = {
        **os.environ,
        "_CONVSPEC_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["convspec", *words]),
        "COMP_CWORD": str(len(words)),
    }
    code = "import sys; sys.argv = ['convspec']; from convspec.cli.app import main; main()"
    return prepared.run("-c", code, env=environment).stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("check", "--adapters", "flax"), ["flax", "flax-linen"]),
        (("check", "--adapters", "torch,ker"), ["torch,keras", "torch,keras-jax", "torch,keras-torch"]),
        (("check", "--adapters", "flax,flax"), ["flax,flax-linen"]),
        (("check", "--corpus", "t"), ["tutorial", "threewise", "timm"]),
        (("check", "--data", "exact,non"), ["exact,nonfinite", "exact,nonfinite_kernel"]),
        (("check", "--dtypes", "bf"), ["bfloat16"]),
        (("check", "--precision", "s"), ["shipped", "strict"]),
        (("fuzz", "--layouts", "NH"), ["NHWC"]),
        (("source", "x", "--to", "onnx"), ["onnx", "onnx-reference"]),
        (("show", "x", "--adapters", "torch,op"), ["torch,openvino"]),
        (("check", "--adapters", "tensorflow"), []),
    ],
    ids=lambda value: " ".join(value) or "nothing",
)
def test_the_tab_key_knows_the_names(words, found):
    assert offered(*words) == found
