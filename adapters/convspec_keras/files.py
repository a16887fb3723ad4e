"""Keras files and TensorFlow's SavedModels, loaded without code of their own. Called in a child process."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import keras

from convspec.errors import ConvspecError, RequestError, UnsupportedError

_PARTS = ("config.json", "model.weights.h5")


def load(path: str) -> Any:
    """The model of a ``.keras`` file, in Keras's safe mode and without its optimizer, or the graph of a SavedModel.

    Raises:
        RequestError: where the file is broken.
        UnsupportedError: where the model is more than Keras's own layers: a Lambda, a custom class.
    """
    if Path(path).is_dir():
        from convspec_keras import saved

        return saved.load(path)
    if not zipfile.is_zipfile(path):
        raise RequestError("it is not an archive of Keras, or a truncated one")
    try:
        with zipfile.ZipFile(path) as archive:
            missing = [name for name in _PARTS if name not in archive.namelist()]
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise RequestError(f"it is a broken archive: {error}") from None
    if missing:
        raise RequestError(f"it is not a Keras file: it has no {' and no '.join(missing)}")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except ConvspecError:
        raise
    except (TypeError, ValueError) as error:
        raise UnsupportedError(f"Keras in safe mode does not load it: {_said(error)}") from None


def _said(error: Exception) -> str:
    """Return Keras's message without the model's configuration, and without its advice to load it unsafely."""
    text = re.split("Full object config|config={|If you trust", str(error))[0]
    return " ".join(text.split())[:400]


def store(model: Any, path: str) -> None:
    """Write the model as a ``.keras`` file."""
    if not isinstance(model, keras.Model):
        raise UnsupportedError("a SavedModel's graph is not written: port to a Keras model, and export that")
    model.save(path)
