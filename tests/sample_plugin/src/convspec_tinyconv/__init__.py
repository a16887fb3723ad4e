"""The convspec adapter of tinyconv."""

from convspec.contract import PlanAdapter

ADAPTER = PlanAdapter(
    name="tinyconv",
    package="convspec_tinyconv",
    requires=("tinyconv",),
    distributions=("convspec-tinyconv", "numpy"),
    native_layout="NHWC",
    dtypes=("float32",),
    layouts=("NHWC",),
    roots=("tinyconv",),
)

__all__ = ["ADAPTER"]
