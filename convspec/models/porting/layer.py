"""A layer of one framework as a layer of another, its weights moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convspec.contract import registry
from convspec.models.find_adapter import owner


def port(
    layer: Any,
    to: str,
    layout: str | None = None,
    *,
    input_shape: Sequence[int] | None = None,
    device: str = "cpu",
) -> Any:
    """The same layer in another framework: same spec, same weights bit for bit, same dtype.

    Args:
        layer: of any framework; of ONNX a ``ModelProto`` or the path of one.
        to: name of the adapter that builds the new layer.
        layout: of the tensors that the new layer takes; None: its framework's own.
        input_shape: of the input, in the old layer's layout; needed where the layer is more than a plain
            convolution. Its padding is then that for inputs of this size.
        device: that the new layer is put on.

    Raises:
        UnsupportedError: saying what cannot be read, or what the other framework cannot express.
        RequestError: where the layer is of no framework that an adapter knows.
    """
    reading = owner(layer).read(layer, input_shape)
    return registry.adapter(to).build(reading.spec, reading.params, layout, reading.dtype, device)
