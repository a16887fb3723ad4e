"""The convspec adapter of tinyconv."""

from convspec.planned import PlannedAdapter

ADAPTER = PlannedAdapter(
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
