"""Keras layers read: those that convspec built, and those of other hands; on the backend that KERAS_BACKEND names."""

from __future__ import annotations

import os

import numpy as np
import pytest

pytest.importorskip("keras")

from convspec_keras import ADAPTER, JAX, TORCH
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convspec import ConvSpec, layouts, reference, strategies
from convspec.errors import UnsupportedError
from tests.adapters import reading as law

BACKEND = {"tensorflow": ADAPTER, "jax": JAX, "torch": TORCH}[os.environ.get("KERAS_BACKEND", "tensorflow")]
pytest.importorskip(BACKEND.backend)

BACKEND.configure(threads=1)

import keras
from keras import layers, ops

pytestmark = pytest.mark.keras


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(strategies.cases(), st.sampled_from(layouts.LAYOUTS), st.sampled_from(["float32", "float16", "bfloat16"]))
def test_what_was_built_is_read_back(case, layout, dtype):
    if BACKEND.support(case.spec, layout, dtype) != "unsupported":
        law.check(BACKEND, case, layout, dtype)
