"""The adapter ``flax-linen``: what differs from nnx."""
