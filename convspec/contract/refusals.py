"""Errors that the adapters of all frameworks raise in the same words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from convspec.errors import ConvspecError, RequestError, ShapeError, UnsupportedError
from convspec.spec import DTYPES, Array, layouts


@contextmanager
def refuse_inputs(model: str) -> Iterator[None]:
    """Raise RequestError where a framework fails to run a model on a user's inputs."""
    with _raised_as(RequestError, f"the {model} does not take these inputs"):
        yield


@contextmanager
def refuse_shape(shape: Sequence[int]) -> Iterator[None]:
    """Raise UnsupportedError where a framework fails to run a layer or a model on an input of this shape."""
    with _raised_as(UnsupportedError, f"an input of shape {tuple(shape)} cannot be given to it"):
        try:
            yield
        except RequestError as error:  # of refuse_inputs, whose inputs the user has not given
            raise (error.__cause__ or error) from None


@contextmanager
def _raised_as(kind: type[ConvspecError], words: str) -> Iterator[None]:
    try:
        yield
    except ConvspecError:
        raise
    except Exception as error:
        raise kind(f"{words}: {error}") from error


def check_layout(x: Array, channels: int, layout: str, ndim: int) -> None:
    """Raise ShapeError where ``x`` cannot be a batch of ``channels`` channels in ``layout``."""
    if x.ndim != ndim + 2:
        wanted = f"{ndim + 2}: {layouts.name(layout, ndim)}"
        raise ShapeError(f"input of shape {x.shape} has {x.ndim} axes, but this layer expects {wanted}")
    axis = 1 if layouts.family(layout, ndim) == layouts.CHANNELS_FIRST else -1
    if x.shape[axis] != channels:
        other = -1 if axis == 1 else 1
        looks = f"; axis {other % x.ndim} is {channels}: this looks like the other layout"
        hint = looks if x.shape[other] == channels else ""
        raise ShapeError(
            f"input of shape {x.shape}: axis {axis % x.ndim} must be {channels} channels "
            f"({layouts.name(layout, ndim)}), but is {x.shape[axis]}{hint}"
        )


def known_dtype(name: str) -> str:
    """Return the name of a layer's format. Raises UnsupportedError where the formats of convspec do not have it."""
    if name not in DTYPES:
        raise UnsupportedError(f"the weights are {name}; read are {', '.join(DTYPES)}")
    return name


def no_convolutions(model: str, kinds: Iterable[str], what: str = "layers") -> UnsupportedError:
    """Return the error for a model without convolutions, listing the kinds of its layers."""
    return UnsupportedError(f"{model} has no convolutions; its {what}: {', '.join(sorted(set(kinds))) or 'none'}")
