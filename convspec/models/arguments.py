"""Load the models and inputs that a command line names."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convspec.errors import RequestError, printable
from convspec.models.files.model_file import ModelFile
from convspec.models.run_model import adapter_for


def load_model(name: str) -> Any:
    """Return the model that a command line names: a file, or ``module:factory``.

    An .onnx file is its path, any other a :class:`~convspec.models.files.model_file.ModelFile`. The module is imported,
    also from the working directory; a model in it – of a class that an adapter knows, or ``(module, variables)`` – is
    returned as it is, also where it is callable; a class, a function and any other callable is called without
    arguments.

    Raises:
        RequestError: if there is no such file, module or object, or it cannot be called without arguments.
    """
    if name.endswith(".onnx"):
        if not Path(name).is_file():
            raise RequestError(f"file not found: {printable(name)!r}")
        return name
    if Path(name).exists() or (":" not in name and "." in Path(name).name):
        return ModelFile(name)
    path, colon, attribute = name.partition(":")
    if not colon or not all(word.isidentifier() for word in (*path.split("."), *attribute.split("."))):
        raise RequestError(f"{printable(name)!r} must be the path of a model file, or module:factory")
    named = _import(path)
    try:
        for word in attribute.split("."):
            named = getattr(named, word)
    except AttributeError:
        raise RequestError(f"module {path!r} has no {attribute!r}") from None
    return named if _is_model(named) else _call(named, name)


def _import(path: str) -> Any:
    folder = os.getcwd()  # noqa: PTH109 – an entry of sys.path is text
    added = folder not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise
        raise RequestError(f"there is no module {path!r}") from None
    finally:
        if added:
            sys.path.remove(folder)


def _is_model(named: Any) -> bool:
    """Whether the object is a model; the instances of many frameworks' modules are callable, too."""
    if isinstance(named, type) or not callable(named):
        return not isinstance(named, type)
    try:
        adapter_for(named)
    except RequestError:
        return False
    return True


def _call(factory: Any, name: str) -> Any:
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise RequestError(f"{name} must be a model, or take no arguments: {error}") from None
    except ValueError:  # written in C, without a signature
        pass
    return factory()


def load_inputs(file: str | None, shape: str | None, seed: int) -> Any:
    """Return the arrays of an .npz or .npy file, random ones of these shapes, or None; named ones by name.

    Raises:
        RequestError: if the file cannot be read – pickled objects are not –, or the shape is malformed.
    """
    if file is not None and shape is not None:
        raise RequestError("give an input file or a shape, not both")
    if shape is not None:
        return [_random(text, seed + place) for place, text in enumerate(shape.split(";"))]
    if file is None:
        return None
    arrays = read_arrays(file)
    numbered = all(name.removeprefix("arr_").isdigit() for name in arrays)
    return list(arrays.values()) if numbered else arrays


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file by name, in order; the array of an .npy file is named ``0``.

    Raises:
        RequestError: if the file cannot be read, or holds pickled objects.
    """
    name = printable(os.fspath(path))
    try:
        with Path(path).open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            return {"0": stored} if isinstance(stored, np.ndarray) else dict(stored)
    except OSError as error:
        raise RequestError(f"cannot read {name}: {error.strerror or error}") from None
    except (ValueError, EOFError, ImportError, zipfile.BadZipFile) as error:
        reason = f"{type(error).__name__}; pickled objects are not read"
        raise RequestError(f"{name} is not an .npz or .npy file of plain arrays ({reason})") from None


def _random(text: str, seed: int) -> NDArray[np.float32]:
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1 or np.prod(sizes, dtype=object) > 1 << 28:
        raise RequestError(f"{printable(text, 80)!r} is not a shape: write 1,3,32,32, with sizes of 1 or more")
    return np.random.default_rng(seed).standard_normal(sizes, np.float32)
