"""linen's constructors are read where nnx' are."""

from convspec_flax.parse import parse

__all__ = ["parse"]
