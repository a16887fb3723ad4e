"""Arrays of Keras' files of weights."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from convspec.errors import RequestError
from tests.adapters.keras.backend import BACKEND

import keras  # isort: skip

import convspec

pytestmark = pytest.mark.keras


@pytest.mark.parametrize("name", ["net.keras", "net.weights.h5"])
def test_the_arrays_of_a_model(tmp_path, name):
    net = keras.Sequential(
        [keras.layers.Input((9, 8, 3)), keras.layers.Conv2D(4, (2, 3)), keras.layers.DepthwiseConv2D(3)]
    )
    (net.save if name.endswith(".keras") else net.save_weights)(tmp_path / name)
    wanted = {weight.path: np.asarray(keras.ops.convert_to_numpy(weight)) for weight in net.weights}
    found = convspec.match_weights(wanted, tmp_path / name)
    assert found.complete
    assert {str(m.relation) for m in found.matches} == {"equal"}
    assert BACKEND.load_weights(str(tmp_path / name)).keys() >= {m.b for m in found.matches}


def test_links_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.ones(3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["w"] = h5py.ExternalLink(tmp_path / "other.h5", "/secret")
    with pytest.raises(RequestError, match="w is a link, which is not followed"):
        convspec.match_weights(tmp_path / "a.h5")


def test_data_in_other_files_are_not_read(tmp_path):
    (tmp_path / "raw").write_bytes(np.ones(3).tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("w", (3,), "f8", external=[(str(tmp_path / "raw"), 0, 24)])
    with pytest.raises(RequestError, match="w has its data in another file"):
        convspec.match_weights(tmp_path / "a.h5")


def test_other_content_is_refused(tmp_path):
    (tmp_path / "a.weights.h5").write_bytes(b"no HDF5")
    with pytest.raises(RequestError, match=r"cannot be read as \.h5"):
        convspec.match_weights(tmp_path / "a.weights.h5")
