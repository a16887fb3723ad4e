"""The convspec adapter of myframe."""

from convspec.planned import PlannedAdapter

# Importing this module must not import myframe: that happens on the first call of layer.py or read.py.
ADAPTER = PlannedAdapter(
    name="myframe",
    package="convspec_myframe",
    requires=("myframe",),  # import names without which nothing works
    distributions=("myframe",),  # what a report names the versions of
    native_layout="NCHW",
    dtypes=("float32",),
    layouts=("NCHW",),
    roots=("myframe",),  # classes below these modules are the framework's
)

__all__ = ["ADAPTER"]
