"""linen's constructors, which nnx' parser reads too."""

from convspec_flax.parse import parse

__all__ = ["parse"]
