"""Models and inputs named on a command line."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.errors import RequestError
from convspec.models.files.model_file import ModelFile

if TYPE_CHECKING:
    from numpy.typing import NDArray


def model(name: str) -> Any:
    """A model file's path as it is; of ``module:factory`` what the object is, or what it returns when it is called.

    The module is imported, from the working directory too: that is what its name is given for. A class and a function
    are called without arguments; a model is taken as it is.

    Raises:
        RequestError: where the name is neither, or there is no such module or object.
    """
    if name.endswith(".onnx"):
        if not Path(name).is_file():
            raise RequestError(f"there is no file {name!r}")
        return name
    if Path(name).exists() or (":" not in name and "." in Path(name).name):
        return ModelFile(name)
    path, colon, attribute = name.partition(":")
    if not colon or not all(word.isidentifier() for word in (*path.split("."), *attribute.split("."))):
        raise RequestError(f"{name!r} must be the path of a model file, or module:factory")
    found = _imported(path)
    try:
        for word in attribute.split("."):
            found = getattr(found, word)
    except AttributeError:
        raise RequestError(f"module {path!r} has no {attribute!r}") from None
    return found() if isinstance(found, type) or type(found).__name__ in ("function", "method", "partial") else found


def _imported(path: str) -> Any:
    here = os.getcwd()  # noqa: PTH109 – an entry of sys.path is text
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise
        raise RequestError(f"there is no module {path!r}") from None
    finally:
        if added:
            sys.path.remove(here)


def inputs(file: str | None, shape: str | None, seed: int) -> Any:
    """The arrays of an .npz – by their names, or in order where these are numbers – or .npy file, or random ones.

    Raises:
        RequestError: where the file cannot be read – pickled objects are not – or the shape is none.
    """
    if file is not None and shape is not None:
        raise RequestError("give an input file or a shape, not both")
    if shape is not None:
        return [_random(text, seed + place) for place, text in enumerate(shape.split(";"))]
    if file is None:
        return None
    try:
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return [found]
        with found:
            arrays = {name: found[name] for name in found.files}
    except OSError as error:
        raise RequestError(f"cannot read {file}: {error.strerror or error}") from None
    except (ValueError, EOFError, ImportError) as error:
        raise RequestError(f"{file} is no .npz or .npy file of plain arrays: {type(error).__name__}") from None
    numbered = all(name.removeprefix("arr_").isdigit() for name in arrays)
    return list(arrays.values()) if numbered else arrays


def _random(text: str, seed: int) -> NDArray[np.float32]:
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1 or np.prod(sizes, dtype=object) > 1 << 28:
        raise RequestError(f"{text!r} is no shape: write 1,3,32,32, with sizes of 1 or more")
    return np.random.default_rng(seed).standard_normal(sizes, np.float32)
