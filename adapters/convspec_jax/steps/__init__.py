"""Trace the steps of models that are functions of JAX: what the adapters of Flax and Equinox share; no adapter.

An adapter calls the layers that it knows by :func:`call_layer` and all other modules by :func:`in_module`, and gives
the model as one function to :func:`trace_function`, which returns a ``StepTrace``.
"""

from convspec_jax.steps.layer_calls import Layer, Meaning, call_layer, in_module
from convspec_jax.steps.recorder import trace_function

__all__ = ["Layer", "Meaning", "call_layer", "in_module", "trace_function"]
