"""The adapter of a layer or a model, and the convolutions in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from convspec.contract import registry
from convspec.errors import RequestError
from convspec.models.files import model_file

if TYPE_CHECKING:
    from convspec.contract import Adapter, FoundConv


def adapter_for(layer: Any) -> Adapter:
    """Return the adapter of an object's framework, without importing any framework.

    A pair is a linen module with its variables; a path is that of a graph file, or of a program as in
    :class:`~convspec.models.files.model_file.ModelFile`.

    Raises:
        RequestError: where no adapter knows the object's class, nor any of its bases.
    """
    if isinstance(layer, str | os.PathLike) and (adapter := registry.graph_adapter(layer)):
        return adapter
    if isinstance(layer, str | os.PathLike | model_file.ModelFile):
        return cast("Adapter", model_file.FileAdapter(model_file.open_file(layer).loader))
    kind = type(layer[0]) if isinstance(layer, tuple) and layer else type(layer)
    known = [registry.adapter(name) for name in registry.adapters()]
    for base in kind.__mro__:
        for adapter in known:
            if adapter.owns(base):
                return adapter
    names = ", ".join(adapter.name for adapter in known)
    raise RequestError(f"{kind.__module__}.{kind.__qualname__} is no layer or model that an adapter knows: {names}")


def convs(model: Any, input_shape: Sequence[int] | None = None, *, fold_pads: bool = False) -> list[FoundConv]:
    """Return every convolution of a model of any framework with its path, each by itself.

    Args:
        model: a module, layer, exported program or ``ModelProto``; a linen module bound to its variables, or
            ``(module, variables)``; the path of an ONNX file, or of a TorchScript archive, an exported program, a Keras
            file or a SavedModel, which are loaded in a process of their own.
        input_shape: of the model's input, for linen, which makes its layers when it is called.
        fold_pads: whether a pad immediately before a convolution – ``nn.ZeroPad2d``, ``ZeroPadding2D``, a ``Pad``
            node – is counted as the convolution's own padding. Where the order of operations is code – ``F.pad``,
            ``jnp.pad``, models that are subclasses – only a run shows it: give ``input_shape``.

    Raises:
        UnsupportedError: where there is no convolution, listing the layers that the model has.
        RequestError: where no adapter knows the object's framework.
    """
    return adapter_for(model).convs(model, input_shape, fold_pads=fold_pads)
