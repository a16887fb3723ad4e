"""``convspec diagnose`` as a user meets it."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from convspec import ConvParams, ConvSpec, reference
from convspec.cli.app import app

SPEC = ConvSpec(3, 4, (3, 5), stride=2, padding=(1, 2))
PARAMS = ConvParams.random(SPEC, 1)
X = np.random.default_rng(0).standard_normal((2, 3, 8, 9)).astype(np.float32)
RIGHT = reference.conv(SPEC, PARAMS, X).astype(np.float32)


def arrays(actual):
    return {"input": X, "kernel": PARAMS.kernel, "bias": PARAMS.bias, "actual": actual}


@pytest.fixture
def run(tmp_path):
    def run(actual=RIGHT, *options, spec=SPEC, file=None):
        if file is None:
            file = tmp_path / "run.npz"
            np.savez(file, **arrays(actual))
        return CliRunner().invoke(
            app, ["diagnose", spec if isinstance(spec, str) else spec.to_json(), str(file), *options]
        )

    return run


def test_right_numbers_are_status_0(run):
    done = run()
    assert (done.exit_code, done.stdout) == (0, "The numbers are right: nothing to diagnose.\n")


def test_wrong_numbers_are_status_1_and_named_in_plain_text(run):
    done = run(RIGHT - PARAMS.bias.reshape(-1, 1, 1))
    assert done.exit_code == 1
    assert "[bias-dropped]" in done.stdout
    assert "\x1b" not in done.stdout


def test_unexplained_numbers_are_status_1(run):
    wrong = RIGHT.copy()
    wrong[0, 1, 2, 3] += 1
    done = run(wrong, "--seconds", "0")
    assert done.exit_code == 1
    assert "1 of 160 elements are wrong" in done.stdout


def test_the_result_as_json(run, tmp_path):
    wrong = RIGHT - PARAMS.bias.reshape(-1, 1, 1)
    found = json.loads(run(wrong, "--json", "-").stdout)
    assert found["findings"][0]["id"] == "bias-dropped"
    assert run(wrong, "--json", str(tmp_path / "d.json")).exit_code == 1
    assert json.loads((tmp_path / "d.json").read_text("utf-8")) == found


def test_other_spellings_of_layer_and_file(run, tmp_path):
    save_file(arrays(RIGHT), tmp_path / "run.safetensors")
    written = "nn.Conv2d(3, 4, (3, 5), stride=2, padding=(1, 2))"
    assert run(spec=written, file=tmp_path / "run.safetensors").exit_code == 0


def bad_files(folder):
    (folder / "text.npz").write_text("no zip")
    np.savez(folder / "pickled.npz", **arrays(np.array([{}], dtype=object)))
    np.savez(folder / "short.npz", input=X)
    np.savez(folder / "words.npz", **arrays(np.array(["a"])))
    np.save(folder / "single.npy", X)
    (folder / "text.safetensors").write_text("nothing")
    return {
        "text.npz": "is not an .npz or .npy file",
        "pickled.npz": "pickled objects are not read",
        "short.npz": "lacks",
        "none.npz": "cannot read",
        "words.npz": "real numbers",
        "single.npy": "lacks",
        "text.safetensors": "is not a .safetensors file",
    }


def test_bad_requests_are_status_2_and_one_sentence(run, tmp_path):
    for name, words in bad_files(tmp_path).items():
        done = run(file=tmp_path / name)
        assert done.exit_code == 2, name
        assert words in done.stderr, name
        assert len(done.stderr.splitlines()) == 1
    for options in (("--dtype", "tf32"), ("--layout", "HWCN"), ("--json", "/no/such/folder/x.json")):
        assert run(RIGHT, *options).exit_code == 2
    assert run(spec="{}").exit_code == 2
    assert run(spec=ConvSpec(3, 5, (3, 5))).exit_code == 2
