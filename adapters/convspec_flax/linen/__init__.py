"""The adapter ``flax-linen``, as far as it differs from nnx."""
