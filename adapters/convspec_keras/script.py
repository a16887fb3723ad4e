"""A layer run by plain Keras, as text."""

from __future__ import annotations

from convspec.contract import Adapter, LayerRequest, Plan
from convspec_keras.plan import depthwise_layer

_BACKENDS = {"keras": "tensorflow", "keras-jax": "jax", "keras-torch": "torch"}
_FRAMEWORKS = {"tensorflow": "import tensorflow as tf", "jax": "import jax", "torch": "import torch"}
_GRADIENTS = {
    "tensorflow": """\
with tf.GradientTape() as tape:
    tape.watch(inputs)
    y = layer(inputs)
found = tape.gradient(y, [%s], output_gradients=weight_of_y)""",
    "jax": """\
values = [variable.value for variable in layer.trainable_variables]
fixed = [variable.value for variable in layer.non_trainable_variables]
_, pullback = jax.vjp(lambda values, x: layer.stateless_call(values, fixed, x)[0], values, inputs)
of_values, of_input = pullback(weight_of_y)
gradient_of = dict(zip(map(id, layer.trainable_variables), of_values))
found = [%s]""",
    "torch": """\
inputs.requires_grad_()
found = torch.autograd.grad(layer(inputs), [%s], weight_of_y)""",
}
_SCRIPT = """\
import os

os.environ["KERAS_BACKEND"] = "{backend}"
{framework}{layer}

with keras.device("{place}"):
{steps}
{end}
"""
CALL = """\
import keras


def call(model, arrays):
    y = model(arrays[0] if len(arrays) == 1 else arrays, training=False)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, y)
"""


def script(plan: Plan, request: LayerRequest, adapter: Adapter) -> str:
    """Return code that builds the layer by a call, loads ``kernel`` and ``bias``, and computes ``actual``."""
    backend = _BACKENDS[adapter.name]
    x64 = backend == "jax" and plan.dtype == "float64"
    framework = [_FRAMEWORKS[backend]] if x64 or request.direction != "forward" else []
    if x64:
        framework += ["", 'jax.config.update("jax_enable_x64", True)']
    steps = [
        f'inputs = keras.ops.convert_to_tensor(x, "{plan.dtype}")', "layer(inputs)  # builds it", *_weights(plan),
    ]  # fmt: skip
    if request.direction == "forward":
        steps.append("found = [layer(inputs)]")
    else:
        steps.append(f'weight_of_y = keras.ops.convert_to_tensor(dy, "{plan.dtype}")')
        steps += _gradient(backend, _sources(plan)[request.direction])
    cast = 'keras.ops.cast(part, "float32")' if plan.dtype == "bfloat16" else "part"
    steps.append(f"found = [keras.ops.convert_to_numpy({cast}) for part in found]")
    return _SCRIPT.format(
        backend=backend, framework="".join(f"{line}\n" for line in framework), layer=plan.text.rstrip(),
        place="cpu:0" if request.device == "cpu" else "gpu:0", steps="\n".join(f"    {line}" for line in steps),
        end=_end(plan, request.direction),
    )  # fmt: skip


def _weights(plan: Plan) -> list[str]:
    spec, convs = plan.spec, _convs(plan)
    if depthwise_layer(spec):
        parts = (spec.in_channels, spec.out_channels // spec.in_channels, *spec.kernel_size)
        lines = [f"{convs[0]}.kernel.assign(np.moveaxis(kernel.reshape{parts}, (0, 1), (-2, -1)))"]
    else:
        lines = [
            f"{conv}.kernel.assign(np.moveaxis({_part('kernel', len(convs), i)}, (0, 1), (-1, -2)))"
            for i, conv in enumerate(convs)
        ]
    if not spec.bias:
        return lines
    if plan.bias:
        return [*lines, f"layer.{plan.bias}.assign(bias)"]
    return [*lines, *(f"{conv}.bias.assign({_part('bias', len(convs), i)})" for i, conv in enumerate(convs))]


def _convs(plan: Plan) -> list[str]:
    """Return how the convolutions of a plan's layer are written."""
    form = 'layer.get_layer("{}")' if "keras.Sequential(" in plan.text else "layer.{}"
    return [form.format(name) for name in plan.convs] or ["layer"]


def _part(name: str, count: int, place: int) -> str:
    return name if count == 1 else f"np.split({name}, {count})[{place}]"


def _sources(plan: Plan) -> dict[str, list[str]]:
    """Return the variables of each direction's gradient."""
    convs = _convs(plan)
    biased = [f"layer.{plan.bias}"] if plan.bias else [f"{conv}.bias" for conv in convs]
    return {"input": ["inputs"], "kernel": [f"{conv}.kernel" for conv in convs], "bias": biased}


def _gradient(backend: str, sources: list[str]) -> list[str]:
    """Return the statements that assign the gradients to ``found``."""
    if backend == "jax":
        values = ["of_input" if source == "inputs" else f"gradient_of[id({source})]" for source in sources]
    else:
        values = [source if source == "inputs" else f"{source}.value" for source in sources]
    return (_GRADIENTS[backend] % ", ".join(values)).split("\n")


def _end(plan: Plan, direction: str) -> str:
    """Return the statement that joins the parts in the canonical order."""
    if direction != "kernel":
        return "actual = np.concatenate(found)"
    if depthwise_layer(plan.spec):
        return "actual = np.moveaxis(found[0], (-2, -1), (0, 1)).reshape(kernel.shape)"
    return "actual = np.concatenate([np.moveaxis(part, (-1, -2), (0, 1)) for part in found])"
