"""How users of linen write a step, and a network."""

from convspec_flax.network_code import LINEN as TARGET

__all__ = ["TARGET"]
