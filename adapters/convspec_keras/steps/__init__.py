"""The trace of every step of a Keras model: one run on tensors that Keras takes for symbolic ones.

Layers of users and nested models are seen through to Keras's own layers and operations, each of which is evaluated when
it is called.
"""

from convspec_keras.steps.run import trace_steps

__all__ = ["trace_steps"]
