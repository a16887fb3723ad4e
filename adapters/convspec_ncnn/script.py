"""A net run by plain ncnn, as text."""

from __future__ import annotations

from convspec.contract import Adapter, LayerRequest, Plan
from convspec.errors import UnsupportedError

_RUN = """{option}
native = {kernel}
with open("layer.bin", "wb") as file:
    file.write(b"\\0\\0\\0\\0" + np.ascontiguousarray(native, np.float32).tobytes(){bias})
layer.load_model("layer.bin")


def run(sample):
    extractor = layer.create_extractor()
    extractor.input("x", ncnn.Mat(sample).clone())
    return np.array(extractor.extract("y")[1])


actual = np.stack([run(np.ascontiguousarray(sample)) for sample in x])
"""


def script(plan: Plan, request: LayerRequest, adapter: Adapter) -> str:
    """Return code that builds the net, loads ``kernel`` and ``bias``, and computes ``actual``.

    Raises:
        UnsupportedError: for gradients.
    """
    if request.direction != "forward":
        raise UnsupportedError("ncnn has no gradients: it runs forward only")
    spec, kernel = plan.spec, "kernel"
    if spec.transposed:
        rows, columns = spec.in_channels // spec.groups, spec.out_channels // spec.groups
        shape, whole = (spec.groups, rows, columns, *spec.kernel_size), (spec.out_channels, rows, *spec.kernel_size)
        kernel = f"kernel.reshape{shape}.swapaxes(1, 2).reshape{whole}"
    option = "layer.opt.use_winograd_convolution = False\n" if adapter.variant == "direct" else ""
    bias = " + bias.astype(np.float32).tobytes()" if spec.bias else ""
    return f"{plan.text}\n{_RUN.format(option=option, kernel=kernel, bias=bias)}"
