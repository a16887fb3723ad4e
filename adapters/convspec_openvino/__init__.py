"""The adapter of OpenVINO: models of one convolution, compiled for the CPU to be computed in float32."""

from convspec.contract import PlanAdapter

ADAPTER = PlanAdapter(
    name="openvino",
    package="convspec_openvino",
    requires=("openvino",),
    distributions=("openvino", "numpy"),
    native_layout="NCHW",
    dtypes=("float32",),
    roots=("openvino",),
)

__all__ = ["ADAPTER"]
