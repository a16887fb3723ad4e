"""Assertions for the tests of a port, and the pytest plug-in ``-p convspec.testing.pytest_plugin``.

In go two layers, or two models, and inputs; out comes nothing, or an AssertionError that names the first difference and
the mistake that causes it.
"""

from convspec.testing.assertions import assert_layers_agree, assert_models_agree, assert_output

__all__ = ["assert_layers_agree", "assert_models_agree", "assert_output"]
