"""Load the models and inputs that a command line names."""

from __future__ import annotations

import ast
import enum
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convspec.errors import RequestError, printable
from convspec.models.files.model_file import ModelFile
from convspec.models.run_model import adapter_for


class Named(NamedTuple):
    """Where Python code has a model: in a file or a module, the attributes that lead to it, and arguments for it."""

    file: str
    module: str
    words: tuple[str, ...]
    given: tuple[Sequence[Any], Mapping[str, Any]] | None = None


def named(name: str) -> Named | None:
    """Return what ``module:factory`` or ``FILE.py:factory`` names, or with arguments; None for the file of a model.

    Raises:
        RequestError: if the name is neither, there is no such file, or an argument is no literal.
    """
    if Path(name).exists() or name.endswith(".onnx") or (":" not in name and "." in Path(name).name):
        return None
    bare, bracket, inside = name.partition("(")
    given = _given(name, inside) if bracket and inside.endswith(")") else None
    path, colon, attribute = (bare if given else name).rpartition(":")
    words = tuple(attribute.split("."))
    file = path if path.endswith(".py") else ""
    module = Path(path).stem if file else path
    if not colon or not all(word.isidentifier() for word in (*([] if file else module.split(".")), *words)):
        raise RequestError(
            f"{printable(name)!r} must be the path of a model file, or module:factory, or FILE.py:factory"
        )
    if file and not Path(file).is_file():
        raise RequestError(f"file not found: {printable(file)!r}")
    file = os.path.abspath(file) if file else ""  # noqa: PTH100 – links stay as they are
    return Named(file, module, words, given)


def _given(name: str, inside: str) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the positional arguments and the keywords of ``inside``, the text behind the opening bracket."""
    try:
        call = ast.parse(f"call({inside}", mode="eval").body
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        keywords = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords if word.arg}
        if len(keywords) == len(call.keywords):
            return [ast.literal_eval(node) for node in call.args], keywords
    except (SyntaxError, ValueError, TypeError, AssertionError, MemoryError, RecursionError):
        pass
    raise RequestError(f"the arguments in {printable(name)!r} must be literals, such as weights=None") from None


def load_model(name: str, untrained: Callable[[str], object] | None = None) -> Any:
    """Return the model that a command line names: a file, ``module:factory``, ``FILE.py:factory``, or a call of one.

    An .onnx file is its path, any other a :class:`~convspec.models.files.model_file.ModelFile`. The module is imported,
    also from the working directory; a model in it – of a class that an adapter knows, or ``(module, variables)`` – is
    returned as it is, also where it is callable; a class, a function and any other callable is called, without
    arguments if the name has none.

    Args:
        untrained: given where the weights do not matter: a factory that would load trained ones is called without
            them, and this function is told so in a sentence.

    Raises:
        RequestError: if there is no such file, module or object, or its call fails.
    """
    if name.endswith(".onnx"):
        if not Path(name).is_file():
            raise RequestError(f"file not found: {printable(name)!r}")
        return name
    place = named(name)
    if place is None:
        return ModelFile(name)
    found = _import_file(place) if place.file else _import(place.module)
    try:
        for word in place.words:
            found = getattr(found, word)
    except AttributeError:
        raise RequestError(f"module {place.module!r} has no {'.'.join(place.words)!r}") from None
    if place.given is None and _is_model(found):
        return found
    return _call(found, name, place.given or ((), {}), untrained if place.given is None else None)


@contextmanager
def working_folder(folder: str | None = None) -> Iterator[None]:
    """Let modules be imported from a folder, too; None: from the working directory."""
    folder = os.getcwd() if folder is None else folder  # noqa: PTH109 – an entry of sys.path is text
    added = folder not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        if added:
            sys.path.remove(folder)


def _import(path: str) -> Any:
    with working_folder():
        try:
            return importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{path}.".startswith(f"{error.name}."):
                raise
            raise RequestError(f"there is no module {path!r}") from None


def _import_file(place: Named) -> Any:
    """Import a file as a module of its own name; what it imports is looked for beside it, too."""
    spec = importlib.util.spec_from_file_location(place.module, place.file)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[place.module] = module = importlib.util.module_from_spec(spec)
    with working_folder(str(Path(place.file).parent)):
        spec.loader.exec_module(module)
    return module


def _is_model(named: Any) -> bool:
    """Whether the object is a model; the instances of many frameworks' modules are callable, too."""
    if isinstance(named, type) or not callable(named):
        return not isinstance(named, type)
    try:
        adapter_for(named)
    except RequestError:
        return False
    return True


def _call(
    factory: Any, name: str, given: tuple[Sequence[Any], Mapping[str, Any]], untrained: Callable[[str], object] | None
) -> Any:
    """Call a factory; a failure says what was called, what failed where, and what to write instead."""
    args, kwargs = given
    try:
        signature = inspect.signature(factory)
        signature.bind(*args, **kwargs)
    except TypeError as error:
        rule = "does not take these arguments" if args or kwargs else "must be a model, or take no arguments"
        hint = "" if args or kwargs else "; give them, as in module:factory(depth=18)"
        raise RequestError(f"{printable(name, 200)} {rule}: {error}{hint}") from None
    except ValueError:  # written in C, without a signature
        signature = inspect.Signature()
    trained = {key: one.default for key, one in signature.parameters.items() if key not in kwargs and _loads(one)}
    without = {key: False if value is True else None for key, value in trained.items()}
    if untrained and trained:
        loaded = ", ".join(f"{key}={value!r}" for key, value in trained.items())
        untrained(f"called {_called(name, without)} (default: {loaded}): the weights do not matter here")
        kwargs = {**kwargs, **without}
    try:
        return factory(*args, **kwargs)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]
        place = next((f" ({f.filename}:{f.lineno})" for f in reversed(frames) if f.filename == frames[0].filename), "")
        words = f"{name if '(' in name else f'{name}()'} failed: {type(error).__name__}: {error}{place}"
        step = f"; for random weights write {_called(name, without)!r}" if trained and not untrained else ""
        raise RequestError(f"{printable(words, 2000)}{step}") from error


def _loads(parameter: inspect.Parameter) -> bool:
    """Return whether a factory loads trained weights if this parameter keeps its default."""
    default = parameter.default
    if parameter.name == "pretrained":
        return default is True or isinstance(default, str)
    return "weights" in parameter.name and default is not parameter.empty and isinstance(default, str | enum.Enum)


def _called(name: str, kwargs: Mapping[str, Any]) -> str:
    """Return the name with these arguments: ``keras.applications:MobileNetV2(weights=None)``."""
    start = f"{name[:-1]}, " if name.endswith(")") and not name.endswith("()") else f"{name.removesuffix('()')}("
    return f"{start}{', '.join(f'{key}={value!r}' for key, value in kwargs.items())})"


def load_inputs(file: str | None, shape: str | None, seed: int) -> Any:
    """Return the arrays of an .npz or .npy file, random ones of these shapes, or None; named ones by name.

    Raises:
        RequestError: if the file cannot be read – pickled objects are not –, or the shape is malformed.
    """
    if file is not None and shape is not None:
        raise RequestError("give an input file or a shape, not both")
    if shape is not None:
        sizes = enumerate(input_shapes(shape))
        return [np.random.default_rng(seed + place).standard_normal(size, np.float32) for place, size in sizes]
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


def input_shapes(text: str) -> tuple[tuple[int, ...], ...]:
    """Return the shapes in ``1,3,32,32``, of several inputs separated by ``;``.

    Raises:
        RequestError: if one is malformed or too large.
    """
    return tuple(map(_shape, text.split(";")))


def _shape(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1 or np.prod(sizes, dtype=object) > 1 << 28:
        raise RequestError(f"{printable(text, 80)!r} is not a shape: write 1,3,32,32, with sizes of 1 or more")
    return sizes
