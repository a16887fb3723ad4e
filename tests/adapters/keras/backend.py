"""The adapter of the backend that KERAS_BACKEND names, with one thread: TensorFlow takes that before its first work."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("keras")

from convspec_keras import ADAPTER, JAX, TORCH

BACKEND = {"tensorflow": ADAPTER, "jax": JAX, "torch": TORCH}[os.environ.get("KERAS_BACKEND", "tensorflow")]
pytest.importorskip(BACKEND.backend)
BACKEND.configure(threads=1)
