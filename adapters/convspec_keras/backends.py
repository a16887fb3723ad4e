"""Operations of Keras's backends: devices, gradients, process-wide switches."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any, Protocol

import keras

from convspec.contract import known_gaps
from convspec_keras.plan import runs_in_onednn


class Backend(Protocol):
    """One of the libraries that Keras runs on."""

    library: Any

    def __init__(self, library: Any) -> None:
        self.library = library

    def devices(self) -> tuple[str, ...]:
        """``cpu`` and, where there is one, ``cuda``."""
        ...

    def device_of(self, tensor: Any) -> str:
        """Return the device of a tensor."""
        ...

    def gradients(self, layer: Any, x: Any, dy: Any, variables: Sequence[Any]) -> list[Any]:
        """Gradients of ⟨layer(x), dy⟩ in x and in each of the variables."""
        ...

    def no_gradients(self, conv: Any, dtype: str, shape: Sequence[int], device: str) -> str:
        """Why the gradients of such a layer cannot be relied upon; empty where they can."""
        return ""

    def configure(self, dtype: str, device: str, precision: str, threads: int | None) -> None:
        """Set the switches of this process."""
        ...


class TensorFlow(Backend):
    """Runs eagerly; grouped and channels_first 3-D convolutions are compiled by XLA, anew for every call."""

    def devices(self) -> tuple[str, ...]:
        return ("cpu", "cuda") if self.library.config.list_physical_devices("GPU") else ("cpu",)

    def device_of(self, tensor: Any) -> str:
        return "cuda" if "device:GPU" in tensor.device else "cpu"

    def gradients(self, layer: Any, x: Any, dy: Any, variables: Sequence[Any]) -> list[Any]:
        sources = [x, *(variable.value for variable in variables)]
        with self.library.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        found: list[Any] = tape.gradient(y, sources, output_gradients=dy)
        return found

    def no_gradients(self, conv: Any, dtype: str, shape: Sequence[int], device: str) -> str:
        depthwise = hasattr(conv, "depth_multiplier")
        if shape[0] == 0 and depthwise and dtype != "float32" and not runs_in_onednn(dtype):
            return f"TensorFlow leaves the {dtype} kernel's gradient of a depthwise layer of no samples uninitialised"
        if type(conv).__name__.endswith("Transpose") and 0 in shape[1:]:
            return "TensorFlow ends the process, or leaves the kernel's gradient uninitialised, where x is empty"
        if not depthwise and dtype == "float32" and device == "cpu" and overruns_in_onednn(conv, shape):
            return "on this processor, oneDNN writes beyond its buffer in the kernel's gradient of such a layer"
        return ""

    def configure(self, dtype: str, device: str, precision: str, threads: int | None) -> None:
        tf = self.library
        tf.get_logger().setLevel("ERROR")  # it warns of every grouped convolution, which Keras compiles anew
        if threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        gpus = tf.config.list_physical_devices("GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        if device == "cpu" and gpus:
            tf.config.set_visible_devices([], "GPU")
        tf.config.experimental.enable_tensor_float_32_execution(precision != "strict")


def overruns_in_onednn(conv: Any, shape: Sequence[int]) -> bool:
    """Whether oneDNN, without AVX-512, writes beyond its buffer in the kernel's gradient of a channels-last layer."""
    transposed = type(conv).__name__.endswith("Transpose")
    channels = conv.filters if transposed else shape[-1]
    features = known_gaps.processor_features()
    return (
        "avx2" in features and "avx512f" not in features
        and runs_in_onednn("float32") and conv.data_format == "channels_last" and len(shape) < 5 and shape[0] > 0
        and (transposed or conv.groups == 1) and channels < 8
        and max(conv.kernel_size) == 1 and max(conv.strides) > 1 and max(conv.dilation_rate) == 1
    )  # fmt: skip


class Jax(Backend):
    """Compiles every operation once per shape."""

    def devices(self) -> tuple[str, ...]:
        return ("cpu", "cuda") if self.library.default_backend() == "gpu" else ("cpu",)

    def device_of(self, tensor: Any) -> str:
        (device,) = tensor.devices()
        return "cuda" if device.platform == "gpu" else str(device.platform)

    def gradients(self, layer: Any, x: Any, dy: Any, variables: Sequence[Any]) -> list[Any]:
        trainable = layer.trainable_variables
        fixed = [variable.value for variable in layer.non_trainable_variables]

        def call(values: list[Any], x: Any) -> Any:
            return layer.stateless_call(values, fixed, x)[0]

        _, pull_back = self.library.vjp(call, [variable.value for variable in trainable], x)
        of_values, of_x = pull_back(dy)
        places = {id(variable): place for place, variable in enumerate(trainable)}
        return [of_x, *(of_values[places[id(variable)]] for variable in variables)]

    def configure(self, dtype: str, device: str, precision: str, threads: int | None) -> None:
        """JAX has no switch for the number of its threads."""
        jax = self.library
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # read when the first GPU array is made
        if device == "cpu":
            jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_enable_x64", dtype == "float64")
        if precision == "strict":
            jax.config.update("jax_default_matmul_precision", "highest")


class Torch(Backend):
    """Runs eagerly."""

    def devices(self) -> tuple[str, ...]:
        return ("cpu", "cuda") if self.library.cuda.is_available() else ("cpu",)

    def device_of(self, tensor: Any) -> str:
        return str(tensor.device.type)

    def gradients(self, layer: Any, x: Any, dy: Any, variables: Sequence[Any]) -> list[Any]:
        x = x.detach().requires_grad_()
        return list(self.library.autograd.grad(layer(x), [x, *(variable.value for variable in variables)], dy))

    def configure(self, dtype: str, device: str, precision: str, threads: int | None) -> None:
        torch = self.library
        if threads is not None:
            torch.set_num_threads(threads)
        if precision == "strict":
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False


BACKENDS: dict[str, type[Backend]] = {"tensorflow": TensorFlow, "jax": Jax, "torch": Torch}


def running() -> Backend:
    """The backend that this process has imported Keras on."""
    name = keras.config.backend()
    return BACKENDS[name](importlib.import_module(name))
