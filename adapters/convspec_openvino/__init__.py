"""The adapter of OpenVINO: models of one convolution, compiled for the CPU with float32 as the precision of inference."""

from convspec.planned import PlannedAdapter

ADAPTER = PlannedAdapter(
    name="openvino",
    package="convspec_openvino",
    requires=("openvino",),
    distributions=("openvino", "numpy"),
    native_layout="NCHW",
    dtypes=("float32",),
    roots=("openvino",),
)

__all__ = ["ADAPTER"]
