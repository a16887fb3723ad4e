"""The words of linen."""

from convspec_flax.network import LINEN as VOCABULARY

__all__ = ["VOCABULARY"]
