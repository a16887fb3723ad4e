"""The scripts for issue trackers: run as they are, by a Python that finds no convspec, they show what is the case."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import convspec
from convspec import Case, ConvSpec
from convspec.conformance.fuzzing import scripts as reproducers
from convspec.conformance.results import Result
from convspec.errors import UnsupportedError
from convspec.spec.shapes import DIRECTIONS

# every script by itself, the framework imported once for all of them
DRIVER = """
import json, sys
class NoConvspec:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("convspec"):
            raise AssertionError("a script imports " + name)
sys.meta_path.insert(0, NoConvspec())
said = {}
for path in sys.argv[2:]:
    names = {"__name__": "__main__"}
    try:
        exec(compile(open(path, encoding="utf-8").read(), path, "exec"), names)
        words = "agrees"
    except SystemExit as leaves:
        words = str(leaves)
    except Exception as error:
        words = type(error).__name__
    said[path] = [words, names["actual"].tolist() if "actual" in names else None]
json.dump(said, open(sys.argv[1], "w"))
"""
SMALL = Case(ConvSpec(1, 2, (2,), 2), (1, 1, 4))
# by hand, from the arrays of its seed
# forward:  x = 4 10 15 15, kernel = -12 8 | 15 -5, bias = -1746 | -800
# gradients: x = -5 4 4 4,  kernel = 4 -14 | 12 -9, dy = -8 1 | -5 -2
BY_HAND = {
    "forward": [[[-12 * 4 + 8 * 10 - 1746, -12 * 15 + 8 * 15 - 1746], [15 * 4 - 5 * 10 - 800, 15 * 15 - 5 * 15 - 800]]],
    "input": [[[4 * -8 + 12 * -5, -14 * -8 - 9 * -5, 4 * 1 + 12 * -2, -14 * 1 - 9 * -2]]],
    "kernel": [[[-8 * -5 + 1 * 4, -8 * 4 + 1 * 4]], [[-5 * -5 - 2 * 4, -5 * 4 - 2 * 4]]],
    "bias": [-8 + 1, -5 - 2],
}
LARGER = [
    Case(ConvSpec(4, 6, (3, 2), (2, 1), ((1, 0), (0, 1)), groups=2, padding_mode="reflect"), (2, 4, 5, 7), "NCHW"),
    Case(
        ConvSpec(4, 6, (3, 2), (2, 3), 1, groups=2, transposed=True, output_padding=(1, 2)), (1, 4, 3, 4), "NHWC",
        data="random",
    ),
    Case(ConvSpec(3, 6, (3, 2), 2, 1, groups=3), (2, 3, 5, 6), "NHWC"),
    Case(ConvSpec(3, 2, (3,), 2, 2, transposed=True, bias=False), (2, 3, 4), "NCHW"),
]  # fmt: skip
MARKS = {
    "torch": "torch", "flax": "flax", "flax-linen": "flax", "keras": "keras", "keras-jax": "keras",
    "keras-torch": "keras", "onnx": "onnx", "onnx-reference": "onnx", "equinox": "equinox", "openvino": "openvino",
    "mlx": "mlx", "litert": "litert", "ncnn": "ncnn",
}  # fmt: skip
FORWARD_ONLY = ("onnx", "onnx-reference", "openvino", "litert", "ncnn")
EVERY = [pytest.param(name, marks=getattr(pytest.mark, mark)) for name, mark in MARKS.items()]


def failure(case, request, direction, reason="value: wrong"):
    rest = {"precision": "shipped", "support": "native", "support_reason": "", "accuracy_class": None, "evidence": {}}
    return Result(
        case, request, request, "default", verdict="disagree", reason=reason, gap=None, seconds=0.0,
        direction=direction, **rest,
    )  # fmt: skip


def script(case, name, direction):
    if reason := convspec.contract.registry.absence(convspec.adapter(name)):
        pytest.skip(reason)
    return reproducers.script(failure(case, name, direction))


def run(folder, scripts):
    """What each script says at its end, and its ``actual``."""
    paths = [folder / f"{place}.py" for place in range(len(scripts))]
    for path, text in zip(paths, scripts, strict=True):
        path.write_text(text, "utf-8")
    (folder / "driver.py").write_text(DRIVER)
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "KERAS_BACKEND")}
    done = subprocess.run(
        [sys.executable, "driver.py", "said.json", *(path.name for path in paths)], cwd=folder, env=environment,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads((folder / "said.json").read_text())
    return [said[path.name] for path in paths]


def spoilt(text, direction):
    """The script with one array changed after it was said what is right."""
    name = "kernel" if direction == "forward" else "dy"
    assert text.count("\nallowed = 0\n") == 1
    return text.replace("\nallowed = 0\n", f"\nallowed = 0\n{name} = 2 * {name}\n")


def test_every_adapter_writes_scripts():
    assert set(MARKS) == set(convspec.adapters())
    assert all("actual" in convspec.adapter(name).script(SMALL.spec) for name in MARKS)


@pytest.mark.parametrize("name", EVERY)
def test_a_script_says_what_a_framework_gives(name, tmp_path):
    directions = ("forward",) if name in FORWARD_ONLY else DIRECTIONS
    small = SMALL.varied(layout="NHWC")
    texts = {("small", of): script(small, name, of) for of in directions}
    texts |= {("spoilt", of): spoilt(texts["small", of], of) for of in directions if of in ("forward", "kernel")}
    layout = {} if "NCHW" in convspec.adapter(name).layouts else {"layout": "NHWC"}
    for place, case in enumerate(one.varied(**layout) for one in LARGER):
        if name in ("onnx-reference", "litert") and case.spec.groups > 1 and case.spec.transposed:
            continue  # a declared gap; unsupported
        if convspec.adapter(name).support(case.spec, layout=case.layout) == "unsupported":
            assert name == "mlx"
            assert case.spec.padding_mode == "reflect"
            continue
        half = case.varied(dtype="bfloat16" if place == 1 else case.dtype) if name not in FORWARD_ONLY else case
        every = place == 1 and name != "mlx"  # whose gradient of this input is a declared gap
        some = directions if every else [of for of in directions if of in ("forward", "kernel")]
        texts |= {(place, of): script(half, name, of) for of in some}
    versions = convspec.adapter(name).versions()
    for text in texts.values():
        assert "convspec" not in text
        assert all(f"{package} {version}" in text for package, version in versions.items())
    said = dict(zip(texts, run(tmp_path, list(texts.values())), strict=True))
    for (which, of), (words, _) in said.items():
        assert words.startswith("DISAGREES: ") if which == "spoilt" else words == "agrees", (which, of, words)
    for of in directions:
        right = np.array(BY_HAND[of])
        assert said["small", of][1] == (right.swapaxes(1, 2) if of in ("forward", "input") else right).tolist()


@pytest.mark.keras
def test_a_declared_gap_is_shown_forward_and_backward(tmp_path):
    """Keras on TensorFlow adds a channels_first bias along the width, where that is the number of filters."""
    forward, bias = run(tmp_path, [script(SMALL, "keras", of) for of in ("forward", "bias")])
    assert forward[0] == "DISAGREES: 2 of 4 elements are wrong"
    assert bias[0] == "DISAGREES: 2 of 2 elements are wrong"
    (first, second), (third, fourth) = BY_HAND["forward"][0]
    assert forward[1] == [[[first, second + 1746 - 800], [third + 800 - 1746, fourth]]]
    assert bias[1] == [-8 - 5, 1 - 2]


@pytest.mark.parametrize("name", [p for p in EVERY if p.values[0] in FORWARD_ONLY])
def test_what_has_no_gradients_has_no_script_of_them(name):
    with pytest.raises(UnsupportedError, match="forward only"):
        script(SMALL.varied(layout="NHWC"), name, "kernel")
