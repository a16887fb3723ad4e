"""The conformance suite for pytest: ``pytest -p convspec.testing.pytest_plugin --pyargs convspec.conformance``."""

from __future__ import annotations

import sys
from typing import Any

import pytest

if "convspec.testing.pytest_plugin" not in sys.modules:
    pytest.skip("run with -p convspec.testing.pytest_plugin --convspec-adapter NAME", allow_module_level=True)


def test_layer_agrees_with_the_mathematics(convspec_outcome: Any) -> None:
    convspec_outcome.expect()


def test_declared_gaps_are_neither_closed_nor_too_wide(convspec_gaps: list[Any]) -> None:
    assert not convspec_gaps
