"""Two files of weights without code: which array is which, by the numbers."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import convspec
from convspec.cli.app import app
from convspec.errors import RequestError
from convspec.models.matching.arrays import Relation, _rounding, relations, scaled
from convspec.models.weight_files import WeightMatch, WeightMatches
from convspec.spec import rounded

SCHEMA = json.loads(files("convspec.models").joinpath("weights.schema.json").read_text("utf-8"))


def normal(*shape, seed=0, dtype="f4"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple)


@given(st.data(), SHAPES)
@settings(deadline=None, max_examples=60)
def test_what_was_moved_is_found(data, shape):
    a = normal(*shape, seed=data.draw(st.integers(0, 9)))
    axes = data.draw(st.permutations(range(len(shape))))
    flipped = data.draw(st.sets(st.sampled_from(range(len(shape))), max_size=2))
    moved = np.flip(a, sorted(flipped)).transpose(axes)
    if data.draw(st.booleans()):
        moved = moved.reshape(-1)
    found = relations(a, np.ascontiguousarray(moved))
    if moved.shape == tuple(a.shape[axis] for axis in axes):
        assert found
    for relation in found:
        np.testing.assert_array_equal(relation.move(a), moved)


@given(SHAPES)
@settings(deadline=None, max_examples=30)
def test_other_numbers_are_not_found(shape):
    a, b = normal(*shape), normal(*shape, seed=1)
    assert relations(a, b) == []
    if a.ndim > 1 and all(a.size >= 4 * size for size in shape):
        assert scaled(a, b) is None


def test_square_kernels_and_kernels_of_one_tap_are_told_apart():
    square = normal(3, 3, 3, 3)
    assert [r.axes for r in relations(square, square.transpose(2, 3, 1, 0))] == [(2, 3, 1, 0)]
    assert [r.axes for r in relations(square, square.transpose(3, 2, 1, 0))] == [(3, 2, 1, 0)]
    point = normal(6, 6, 1, 1)
    assert {r.axes[2:] for r in relations(point, point.transpose(2, 3, 1, 0))} == {(1, 0)}
    assert {r.axes[2:] for r in relations(point, point.transpose(2, 3, 0, 1))} == {(0, 1)}


def test_interleaved_groups_are_named():
    a = normal(8, 3, 2, 5)
    b = a.reshape(2, 4, 3, 2, 5).swapaxes(0, 1).reshape(8, 3, 2, 5)
    (found,) = relations(a, b)
    assert (found.split, found.groups) in {(0, 2), (0, 4)}
    np.testing.assert_array_equal(found.move(a), b)
    assert str(found).startswith(f"{found.groups} groups interleaved along axis 0")


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float32"])
def test_a_type_is_named(name):
    a = normal(4, 3, 5, dtype="f8")
    (found,) = relations(a, rounded(a, name).transpose(1, 2, 0))
    assert found == Relation((1, 2, 0), rounded_to=name)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_a_folded_factor_is_named(axis):
    a = normal(6, 4, 3, 5)
    b = a.transpose(2, 3, 1, 0)
    sizes = [1] * 4
    sizes[axis] = b.shape[axis]
    factors = np.linspace(-2, 3, b.shape[axis], dtype="f4").reshape(sizes)
    found = scaled(a, b * factors)
    assert found == Relation((2, 3, 1, 0), factor=axis)
    assert scaled(a, b * factors + np.float32(0.1)) is None


def pair():
    """Return the arrays of a small network in two frameworks' orders."""
    a = {f"{n}.weight": normal(8, 8, 3, 3, seed=n) for n in range(5)}
    a |= {f"{n}.bias": normal(8, seed=n + 10) for n in range(5)}
    a |= {f"norm{n}.weight": np.ones(8, "f4") for n in range(2)} | {
        f"norm{n}.bias": np.zeros(8, "f4") for n in range(2)
    }
    b = {k.replace(".", "/"): v.transpose(2, 3, 1, 0) if v.ndim > 1 else v for k, v in a.items()}
    return a, b


def test_a_right_port_is_complete():
    found = convspec.match_weights(*pair())
    assert found.complete
    assert {m.a.replace(".", "/"): m.b for m in found.matches} == {m.b: m.b for m in found.matches}
    assert [m.among for m in found.matches] == [1] * 10 + [2] * 4
    assert not any(m.remark for m in found.matches)
    assert str(found).endswith("14 of 14 arrays of a are in b.")
    jsonschema.validate(found.to_dict(), SCHEMA)


MISTAKES = {
    "transposed twice": (lambda k: k.transpose(2, 3, 1, 0), "it is transposed twice: axes (1, 0, 3, 2)"),
    "height and width": (lambda k: k.transpose(1, 0, 2, 3), "moved as axes (3, 2, 1, 0)"),
    "flipped": (lambda k: k[::-1, ::-1], "axes (2, 3) of it are flipped"),
    "groups": (
        lambda k: k.reshape(3, 3, 8, 2, 4).swapaxes(3, 4).reshape(3, 3, 8, 8),
        "its groups are interleaved, 4 others are moved as axes (2, 3, 1, 0)",
    ),
    "reshaped": (lambda k: k.transpose(3, 2, 0, 1).reshape(3, 3, 8, 8), "it is reshaped"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_kernel_that_is_moved_unlike_the_others_is_named(name):
    a, b = pair()
    plant, words = MISTAKES[name]
    b["2/weight"] = np.ascontiguousarray(plant(b["2/weight"]))
    found = convspec.match_weights(a, b)
    assert [m.a for m in found.matches if m.remark] == ["2.weight"]
    assert words in next(m.remark for m in found.matches if m.remark)
    assert not found.complete
    assert str(found).endswith("14 of 14 arrays of a are in b, 1 of them moved unlike the others.")


def test_depthwise_and_linear_kernels_have_orders_of_their_own():
    a, b = pair()
    for n in range(3):
        a[f"deep{n}"] = normal(8, 1, 3, 3, seed=n + 20)
        b[f"deep{n}"] = a[f"deep{n}"].transpose(2, 3, 0, 1)
        a[f"dense{n}"] = normal(6, 6, seed=n + 30)
        b[f"dense{n}"] = a[f"dense{n}"].T
    a["table"] = b["table"] = normal(6, 6, seed=40)
    found = convspec.match_weights(a, b)
    assert found.complete
    assert [m.a for m in found.matches if m.remark] == ["table"]


def test_what_is_not_there_is_listed_on_both_sides():
    a, b = pair()
    b["more"] = normal(7)
    b["1/bias"] = b["1/bias"] + np.float32(1)
    found = convspec.match_weights(a, b)
    assert (found.missing, set(found.unmatched)) == (("1.bias",), {"more", "1/bias"})
    assert not found.complete


def test_one_number_everywhere_is_no_evidence_of_an_order():
    found = convspec.match_weights({"w": np.zeros((3, 3, 2, 2), "f4")}, {"v": np.zeros((2, 2, 3, 3), "f4")})
    assert found.complete
    assert str(found.matches[0].relation) == "reshaped"


def test_nan_is_a_number_like_others():
    a = normal(4, 5)
    a[1, 2] = np.nan
    assert convspec.match_weights({"a": a}, {"b": a.T}).matches[0].relation.axes == (1, 0)


def test_one_file_says_what_it_can():
    said = convspec.match_weights(
        {"c.weight": normal(16, 32, 3, 3), "c.bias": normal(16), "d.weight": normal(24, 16, 3, 3), "d.bias": normal(24)}
    ).layout
    assert said == (
        "4 arrays, named as PyTorch does",
        "the taps are the last axes, as in PyTorch and ONNX: 2 of 2 kernels say so, none otherwise",
        "the output channels are axis 0: 2 of 2 kernels say so, none otherwise",
    )
    said = convspec.match_weights({"x": normal(3, 3, 3, 3)}).layout
    assert said[0].endswith("whose names do not tell the framework")
    assert all("cannot tell" in line for line in said[1:])


def test_files_of_numpy_and_safetensors(tmp_path):
    from safetensors.numpy import save_file

    a, b = pair()
    np.savez(tmp_path / "a.npz", **a)
    save_file({k: np.ascontiguousarray(v) for k, v in b.items()}, tmp_path / "b.safetensors")
    done = CliRunner().invoke(app, ["weights", str(tmp_path / "a.npz"), str(tmp_path / "b.safetensors"), "--json", "-"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["files"] == ["a.npz", "b.safetensors"]
    b["2/weight"] = b["2/weight"][::-1]
    np.savez(tmp_path / "b.npz", **b)
    done = CliRunner().invoke(app, ["weights", str(tmp_path / "a.npz"), str(tmp_path / "b.npz")])
    assert done.exit_code == 1
    assert "look at 2.weight: axes (2,) of it are flipped, 4 others are not." in done.stdout
    assert CliRunner().invoke(app, ["weights", str(tmp_path / "a.npz")]).exit_code == 0


def test_bfloat16_of_safetensors(tmp_path):
    a = rounded(normal(4, 6), "bfloat16")
    data = (a.view("<u4") >> 16).astype("<u2").tobytes()
    header = json.dumps({"w": {"dtype": "BF16", "shape": [4, 6], "data_offsets": [0, len(data)]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    (match,) = convspec.match_weights(tmp_path / "w.safetensors", {"w": a}).matches
    assert str(match.relation) == "equal"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("w.txt", b"", "must be a file of weights, ending in .npz, .safetensors"),
        ("w.npz", b"PK", "is not an .npz or .npy file of plain arrays"),
        ("w.safetensors", b"12345678{", "cannot be read as .safetensors"),
        ("missing.npz", None, "file not found"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=words):
        convspec.match_weights(tmp_path / name)


def test_matches_are_printed_with_shapes_and_counted():
    matches = (WeightMatch("k", "l", (2, 3), (3, 2), Relation((1, 0))), WeightMatch("s", "t", (), (), Relation(())))
    found = WeightMatches(("one", "other"), matches, missing=("m",))
    lines = [line.split() for line in str(found).splitlines()]
    assert lines[1][:4] == ["k", "2×3", "l", "3×2"]
    assert lines[2][:4] == ["s", "number", "t", "number"]
    assert "not in b: m" in str(found)
    assert repr(found) == "<WeightMatches: 2 of 3 arrays of a are in b>"


def test_undefined_numbers_are_equal_to_themselves():
    a = np.array([1.0, np.nan, 3.0], np.float32)
    assert _rounding(a, a.copy()) == ""
    assert _rounding(a.astype(np.float16), a) == ""
    assert _rounding(a, np.array([1, 2, 3])) is None
