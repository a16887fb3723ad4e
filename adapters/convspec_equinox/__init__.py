"""The adapter of Equinox: ``eqx.nn.Conv1d`` to ``eqx.nn.ConvTranspose3d``, called on batches by ``jax.vmap``."""

from convspec.contract import PlanAdapter

ADAPTER = PlanAdapter(
    name="equinox",
    package="convspec_equinox",
    requires=("equinox", "jax"),
    distributions=("equinox", "jax", "jaxlib"),
    native_layout="NCHW",
    dtypes=("float32", "float64", "float16", "bfloat16"),
    roots=("equinox",),
)

__all__ = ["ADAPTER"]
