"""What the adapters of Flax and Equinox share: the trace of models that are functions of JAX, and the words of JAX.

An adapter calls the layers that it knows by :func:`call_layer` and all other modules by :func:`in_module`, and gives
the model as one function to :func:`trace_function`, which returns a ``StepTrace``. These names need JAX, and are
imported when they are asked for; ``convspec_jax.network`` needs the standard library only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convspec_jax.layer_calls import Layer, Meaning, call_layer, in_module
    from convspec_jax.recorder import trace_function

__all__ = ["Layer", "Meaning", "call_layer", "in_module", "trace_function"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'recorder' if name == 'trace_function' else 'layer_calls'}"), name)
