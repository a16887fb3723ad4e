"""The pack of test vectors: frozen, the same bytes everywhere, right, and small."""

import json
import math
import os
import subprocess
import sys
import zipfile
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from convspec_onnx.messages import backend_test

from convspec import ConvParams, reference
from convspec.contract import registry
from convspec.corpora import pack
from convspec.corpora.pack.vectors import rounding_bound
from convspec.errors import RequestError, ShapeError
from convspec.spec import ComputePrecision, exact_limit

ROOT = Path(__file__).parents[2]
HASHES = json.loads((ROOT / "tests" / "golden" / "vector_packs.json").read_text("utf-8"))
ARCHIVE = ROOT / "vectors" / f"convspec-vectors-{pack.VERSION}.zip"
ALL = list(pack.draw_vectors())
BY_KIND = {kind: [v for v in ALL if v.kind == kind] for kind in ("exact", "random", "gradient", "quantized", "refused")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("pack") / "new" / "pack"
    return made, pack.write(made, backend_test)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- frozen ------------------------------------------------------------------------------------------------------------


def test_the_content_is_that_of_its_version(folder):
    """A change of any byte is a new version: raise ``VERSION``, run ``release_vectors.py``; never change an old."""
    assert HASHES[str(pack.VERSION)] == folder[1].sha256
    assert list(HASHES) == [str(n) for n in range(1, pack.VERSION + 1)]
    assert len(set(HASHES.values())) == len(HASHES)


def test_the_archive_for_users_without_python_is_the_pack(folder):
    with zipfile.ZipFile(ARCHIVE) as archive:
        assert {info.filename: archive.read(info) for info in archive.infolist()} == files(folder[0])


@pytest.mark.processes
def test_another_process_folder_and_processor_make_the_same_bytes(folder, tmp_path):
    """OpenBLAS is told to be another processor's: it sums in another order."""
    changed = {"OPENBLAS_CORETYPE": "Prescott", "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    environment = {**os.environ, **changed}
    command = [sys.executable, "-m", "convspec", "vectors", "pack", str(tmp_path / "other")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert folder[1].sha256 in done.stdout
    assert files(tmp_path / "other") == files(folder[0])


def test_the_manifest_has_the_hash_of_every_file_and_fits_its_schema(folder):
    content = files(folder[0])
    manifest = json.loads(content.pop("manifest.json"))
    jsonschema.validate(manifest, json.loads(Path(pack.__file__).with_name("pack.schema.json").read_text("utf-8")))
    assert manifest["files"] == {name: sha256(data).hexdigest() for name, data in content.items()}
    assert len(manifest["vectors"]) == folder[1].vectors == len(content["index.tsv"].splitlines()) - 1
    for entry in manifest["vectors"]:
        size = sum((8 if a["type"] == "float64" else 4) * math.prod(a["shape"]) for a in entry["arrays"])
        assert size == len(content[entry["file"]])
        assert (entry["graph"] is None) == (f"onnx/{entry['id']}/model.onnx" not in content)


def test_it_is_small_and_has_every_kind_layout_rank_and_mode(folder):
    assert folder[1].size == sum(len(data) for data in files(folder[0]).values()) <= 3 << 20
    features = json.loads((folder[0] / "manifest.json").read_text("utf-8"))["features"]
    expected = {
        "kind": {*BY_KIND}, "layout": {"NCHW", "NHWC"}, "rank": {"1", "2", "3"},
        "direction": {"regular", "transposed"}, "mode": {"zeros", "reflect", "replicate", "circular"},
        "output_padding": {"none", "some", "beyond stride"}, "groups": {"one", "some", "depthwise",
        "depthwise with multiplier"}, "batch": {"0", "1", "2", "more"},
        "dtype": {"float32", "float64", "float16", "bfloat16", "int8", "uint8"},
    }  # fmt: skip
    for name, values in expected.items():
        assert values <= {*features[name]}, name
    assert {"same", "same_lower", "causal", "asymmetric", "none"} <= {*features["padding"]}


def test_it_is_written_into_a_new_or_empty_folder_only(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(RequestError, match="must be a new or an empty folder"):
        pack.write(tmp_path, lambda _: {})
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(RequestError, match=r"cannot write .*mine\.txt"):
        pack.write(tmp_path / "mine.txt" / "below", lambda _: {})


def test_numbers_are_drawn_as_published():
    """The first numbers of SplitMix64 from the state 0, as in the tests of other implementations."""
    from convspec.corpora.pack.drawing import split_mix

    assert split_mix(0, 3) == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    drawn = pack.draw_integers("any", 20_000, 7)
    assert {*drawn} == {*range(-7, 8)} - {0}
    assert all(abs(drawn.count(n) - 20_000 / 14) < 6 * math.sqrt(20_000 / 14) for n in {*drawn})


# -- right: the naive convolution of the Python reader computes every output again (tests/vectors) ----


def test_integers_are_exact_in_their_format_in_any_order():
    for v in BY_KIND["exact"]:
        data = v.canonical
        size = reference.magnitude(v.spec, v.params, data["x"])
        assert size.size == 0 or size.max() <= exact_limit(v.dtype), v.id
    for v in BY_KIND["gradient"]:
        data = v.canonical
        sizes = reference.gradient_magnitudes(v.spec, v.params, data["x"], data["dy"])
        assert max(a.max() for a in (sizes.input, sizes.kernel, sizes.bias) if a is not None) <= exact_limit("float32")


def test_random_outputs_are_exact_and_their_bound_covers_that_of_the_project():
    for v in BY_KIND["random"]:
        data, unit = v.canonical, 2**20
        scaled = ConvParams(*(None if a is None else a * unit for a in (v.params.kernel, v.params.bias)))
        size = reference.magnitude(v.spec, scaled, data["x"] * unit)
        assert size.max() < 2**53, v.id
        accumulator = "float64" if v.dtype == "float64" else "float32"
        k = reference.products(v.spec)
        own = reference.bounds(v.dtype, k, ComputePrecision(accumulator, 2, flushes_subnormals=True))
        relative, absolute = rounding_bound(v.dtype, k)
        oracle = reference.gamma(k + 1, 2.0**-53)  # that bound also has the rounding of its oracle; here it is exact
        assert own.relative - oracle == pytest.approx(float(relative), rel=1e-9)
        assert float(absolute) >= 0
        assert np.all(data["bound"] > 0)


def test_half_of_the_random_numbers_need_more_digits_than_the_next_coarser_format():
    from convspec.spec import representable

    for v in BY_KIND["random"]:
        assert representable(v.arrays["x"].astype(np.float64 if v.dtype == "float64" else np.float32), v.dtype)
        coarser = {"float32": "tf32", "float64": "tf32", "float16": "bfloat16"}.get(v.dtype)
        if coarser:
            assert not representable(v.arrays["x"].astype(np.float32), coarser)


def test_quantized_limits_are_the_integers_within_the_slack_and_no_others():
    wide = 0
    for v in BY_KIND["quantized"]:
        data, low = v.canonical, -128 if v.dtype == "int8" else 0
        sums = reference.conv(v.spec, v.params, data["x"] - v.zeros[0])
        scale = np.broadcast_to(data["scale"].reshape(-1, *(1,) * v.spec.ndim), sums.shape)
        lists = (a.reshape(-1).tolist() for a in (sums, scale, data["lower"], data["upper"]))
        for total, s, lower, upper in zip(*lists, strict=True):
            exact, reach = (
                Fraction(total) * Fraction(s) + v.zeros[1],
                Fraction(1, 2) + reference.quantized.rounding_slack(s),
            )
            near = range(math.floor(exact) - 2, math.ceil(exact) + 3)
            legal = {min(max(q, low), low + 255) for q in near if abs(q - exact) <= reach}
            assert (min(legal), max(legal)) == (lower, upper), v.id
            wide += lower != upper
        assert np.float32(v.scales[0]) == v.scales[0]
        assert np.array_equal(data["scale"], [v.scales[0] * w / v.scales[1] for w in v.scales[2:]])
    assert wide >= 20  # ties and near ties, where two roundings are legal


def test_quantized_outputs_fill_the_range_and_pass_its_ends():
    all_lower = [v.arrays["lower"].reshape(-1) + 128 * (v.dtype == "int8") for v in BY_KIND["quantized"]]
    lower = np.concatenate(all_lower)
    assert len(np.unique(lower)) > 240
    assert min((lower == 0).sum(), (lower == 255).sum()) >= 20


def test_refused_layers_have_no_output():
    for v in BY_KIND["refused"]:
        with pytest.raises(ShapeError):
            v.spec.output_shape(v.input_shape)


@pytest.mark.processes
def test_the_graph_format_is_written_without_its_package():
    """The graph format is written by bytes: no framework is imported, so the pack is the same with and without it."""
    code = "import sys; sys.modules['onnx'] = None; import convspec_onnx.messages"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert registry.messages_adapter().messages_module == "convspec_onnx.messages"
