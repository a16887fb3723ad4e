"""From a call of a PyTorch function to steps: the table of all functions that the vocabulary has words for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from torch import Tensor

from convspec.contract.tracing import Link, NoWord
from convspec.errors import ConvspecError
from convspec.spec.steps import Other
from convspec_torch.steps import activations, arithmetic, layers, moves, pools
from convspec_torch.steps.calls import Call, tensors_in

TABLE = activations.TABLE | arithmetic.TABLE | layers.TABLE | moves.TABLE | pools.TABLE

SAME = frozenset((
    "contiguous", "detach", "clone", "alias", "data", "requires_grad", "positive", "pos", "cpu", "cuda", "to", "type",
    "type_as", "float", "double", "half", "bfloat16", "int", "long", "bool", "_to_copy", "lift", "lift_fresh",
    "lift_fresh_copy", "resolve_conj", "resolve_neg", "pin_memory", "as_subclass", "conj", "real",
))  # fmt: skip
"""Functions that give the same values, if the dtype stays the same."""

SHAPES = frozenset((
    "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty",
    "new_tensor", "rand_like", "randn_like", "randint_like", "new_empty_strided", "empty_strided",
))  # fmt: skip
"""Functions that take of a tensor its shape only."""

RANDOM = frozenset(("rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "randperm", "normal",
                    "bernoulli", "multinomial", "uniform", "exponential", "gumbel_softmax", "poisson"))  # fmt: skip
NO_STEPS = frozenset((
    "size", "dim", "numel", "nelement", "ndimension", "is_contiguous", "stride", "storage_offset", "len", "shape",
    "dtype", "device", "ndim", "is_floating_point", "is_complex", "element_size", "get_device", "is_cuda", "layout",
    "requires_grad", "is_leaf", "grad", "grad_fn", "is_quantized", "is_sparse", "is_meta", "is_inference",
    "is_same_size", "untyped_storage", "data_ptr", "_version", "has_names", "names", "is_cpu", "is_nested", "dim_order",
    "item", "tolist", "index", "repr", "format", "hash",
))  # fmt: skip
"""Functions whose result is no tensor."""


@lru_cache(1024)
def name_of(func: Callable[..., Any]) -> str:
    """Return the name without what marks a method, an operator or a change in place: ``add`` for ``+=``."""
    schema = getattr(func, "_schema", None)
    name = schema.name.rpartition("::")[2] if schema is not None else getattr(func, "__name__", type(func).__name__)
    if name in ("__get__", "__set__"):
        return str(getattr(func.__self__, "__name__", name))  # type: ignore[attr-defined]
    if name.startswith("__") and name.endswith("__"):
        bare = name[2:-2]
        return bare[1:] if bare in ("iadd", "isub", "imul", "itruediv", "idiv", "ipow", "imatmul") else bare
    return str(name[:-1] if name.endswith("_") and len(name) > 1 else name)


def changes_in_place(func: Callable[..., Any], kwargs: Any) -> bool:
    """Return whether a call says that it changes its first operand, which it may read before."""
    name = getattr(func, "__name__", "").partition(".")[0]
    method = name.endswith("_") and (not name.endswith("__") or name in ("__setitem__", "__set__"))
    return bool(method or kwargs.get("inplace"))


def written(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors that an operator changes by its schema; none for a function without one."""
    schema = getattr(func, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    given = dict(zip((argument.name for argument in schema.arguments), args, strict=False)) | dict(kwargs)
    names = [argument.name for argument in schema.arguments if argument.alias_info and argument.alias_info.is_write]
    return tensors_in([given.get(name) for name in names])


def links(call: Call) -> list[Link]:
    """Return the steps of a call; an unknown function, or settings without a word, are ``Other``."""
    build, note = TABLE.get(call.name), ""
    if build is not None and call.results:
        try:
            built = build(call)
            return [built] if isinstance(built, Link) else list(built)
        except (NoWord, ConvspecError) as error:
            note = str(error)
    kwargs = {key: value for key, value in call.kwargs.items() if key != "out"}
    reads = list({id(t): t for t in tensors_in((call.args, kwargs))}.values())
    return [Link(Other(call.name.lstrip("_")), reads, call.results, note=note)]
