"""The adapter of MLX: ``mlx.nn.Conv1d`` to ``mlx.nn.ConvTranspose3d``, on the CPU."""

from convspec.contract import PlanAdapter

ADAPTER = PlanAdapter(
    name="mlx",
    package="convspec_mlx",
    requires=("mlx",),
    distributions=("mlx", "mlx-cpu", "numpy"),
    native_layout="NHWC",
    dtypes=("float32", "float16", "bfloat16"),
    roots=("mlx",),
)

__all__ = ["ADAPTER"]
