"""Models of JAX with weights that NumPy draws: JAX compiles an initialiser anew for every shape, for seconds in all."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


def draw_weights(tree, low=-0.5):
    """Return a tree with random numbers of an interval of 1; variances are positive, keys and counts the first ones."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.full(leaf.shape, leaf.dtype == bool, leaf.dtype)
        least = 0.5 if "var" in jax.tree_util.keystr(path) else low
        return jnp.asarray(rng.uniform(least, least + 1, leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, tree)


def nnx_model(make):
    """Return the module of nnx that ``make(rngs)`` returns."""
    graph, state = jax.eval_shape(lambda: nnx.split(make(nnx.Rngs(0))))
    return nnx.merge(graph, draw_weights(state))


def linen_variables(module, *inputs):
    """Return variables of a module of linen for these inputs."""
    return draw_weights(jax.eval_shape(module.init, jax.random.key(0), *inputs))
