"""The adapter of OpenVINO: models of one convolution, compiled for the CPU to be computed in float32."""

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
