"""Constructors as people write them – ``nn.Conv2d(3, 16, 3, stride=2)`` – parsed as literals, never evaluated."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from convspec.contract.network_words import Arguments, NotKnown, Tensor, Vocabulary, Word
from convspec.errors import CallError, SpecError
from convspec.spec import ConvSpec

MAX_LENGTH = 2000
MAX_DEPTH = 12
MAX_DIGITS = 9
_PRINTED = re.compile(r"\(\w[\w.\-]*\): ")  # PyTorch prints the name of a layer before it
_WORD = re.compile(r"=(same|valid|reflect|replicate|circular)(?=[,)])")  # it prints these without quotes
_LAZY = re.compile(r"\b(Lazy\w+)\((in_features=)?0(, |(?=\)))")  # and 0 for the channels that are not known yet
_ARITHMETIC: Mapping[type, Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}  # fmt: skip
FOREIGN = {
    "hk": "Haiku", "haiku": "Haiku", "snt": "Sonnet", "sonnet": "Sonnet", "paddle": "PaddlePaddle",
    "mindspore": "MindSpore", "ms": "MindSpore", "mint": "MindSpore", "mlx": "MLX", "tlx": "TensorLayerX",
    "tensorlayerx": "TensorLayerX", "mx": "MXNet", "mxnet": "MXNet", "gluon": "MXNet", "chainer": "Chainer",
    "jittor": "Jittor", "tinygrad": "tinygrad", "oneflow": "OneFlow", "caffe": "Caffe", "lasagne": "Lasagne",
    "slim": "TF-Slim", "tflearn": "TFLearn", "pax": "Pax", "stax": "stax", "trax": "Trax", "objax": "Objax",
    "penzai": "Penzai", "dynet": "DyNet", "cntk": "CNTK", "Flux": "Flux",
}  # fmt: skip
"""Modules of libraries whose networks are not read, with the library's name; some layers have the names of others."""
_HEADS = {
    "torch": ("torch", "nn", "tnn"), "equinox": ("eqx", "equinox", "nn"), "onnx": ("onnx", "helper", "oh"),
    "keras": ("keras", "layers", "tf", "tensorflow", "tfk", "tfkl", "K", "L", "kl", "k"),
    "openvino": ("ov", "openvino", "ops", "opset", "runtime"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unread:
    """An argument that is not a literal; allowed only where a layer's meaning does not depend on it."""

    text: str
    column: int


@dataclass(frozen=True, slots=True)
class ConstructorCall:
    """A constructor call: its dotted name, its arguments as Python literals or :class:`Unread`."""

    text: str
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def function(self) -> str:
        """The last part of the name: ``Conv2d``."""
        return self.name.rpartition(".")[2]

    def bind(self, signature: str | Word, free: Collection[str] = ()) -> dict[str, Any]:
        """Return the arguments by parameter name, with the defaults of the signature.

        Args:
            signature: parameters as Python writes them: ``"filters, kernel_size, stride=1"``.
            free: parameters that do not change the layer (initialisers, names, devices, …), and need not be literals.

        Raises:
            CallError: for too many arguments, unknown or missing names, or a value that is no literal.
        """
        word = Word(signature, ()) if isinstance(signature, str) else signature
        try:
            bound = word.bind(f"{self.function}()", self.args, self.kwargs)
        except CallError as error:
            raise CallError(self.text, error.problem) from None
        for name, value in bound.items():
            if isinstance(value, Unread) and name not in free:
                raise CallError(self.text, f"{name} must be a literal, not {value.text!r}", value.column)
        return bound


_SETTINGS = {
    "in_channels", "out_channels", "in_features", "out_features", "features", "filters", "depth_multiplier",
    "num_spatial_dims", "kernel_size", "stride", "strides", "padding", "output_padding", "padding_mode", "dilation",
    "dilation_rate", "kernel_dilation", "input_dilation", "groups", "feature_group_count", "bias", "use_bias",
}  # fmt: skip
"""What parameters of convolutions are called; all others do not change the layer, but for where its channels are."""


def read_layer(text: str, words: Vocabulary, in_channels: int | None = None) -> ConvSpec:
    """Return the convolution that a constructor describes in the words of its framework.

    Raises:
        CallError: where the text is no such constructor, with the position; where the input channels are not known.
        SpecError: where the layer that it describes breaks a rule.
    """
    call = parse_call(text)
    word = words.layers.get(call.function) if "Conv" in call.function else None
    kinds = ", ".join(name for name in words.layers if "Conv" in name and "LSTM" not in name)
    unknown = CallError(text, f"{words.title} has no convolution {call.function!r}; it has {kinds}")
    if word is None:
        raise unknown
    places = {"data_format", "input_shape"}
    bound = call.bind(word, {*word.names} - _SETTINGS)
    values = {name: value if name in _SETTINGS or (name in places and not isinstance(value, Unread)) else None
              for name, value in bound.items()}  # fmt: skip
    try:
        specs = _convolutions(word, values, in_channels)
    except NotKnown as error:
        specs = []
        with suppress(NotKnown, SpecError):
            specs = _convolutions(word, values, 1)
        if len(specs) < 2:
            layers = f"{'lazy ' * call.function.startswith('Lazy')}{words.title} layers"
            infers = f"{layers} infer their input channels: give in_channels as well (--in-channels N)"
            raise CallError(text, infers if in_channels is None else str(error)) from None
    if len(specs) > 1:
        raise CallError(text, f"{call.function} is {'two' if len(specs) == 2 else 'several'} layers: write them apart")
    if not specs:
        raise unknown
    return specs[0]


def _convolutions(word: Word, values: Mapping[str, Any], channels: int | None) -> list[ConvSpec]:
    """Return the convolutions that a word means for these arguments, on a tensor of so many channels."""
    made: Any = word.means(Arguments(values, [] if channels is None else [Tensor(0, (1, channels))]))
    parts = made if isinstance(made, list) else [made]
    return [one for part in parts if isinstance(one := getattr(part, "step", part), ConvSpec)]


def parse_call(text: str) -> ConstructorCall:
    """Parse the text of one constructor call as people write and print it.

    A leading ``self.conv =`` or ``(conv1): ``, a comma at the end, the tensor that the layer is applied to and a weight
    norm around it are left out. Imports before it say which module a name is.

    Raises:
        CallError: with the position of an argument that is not a literal; where it is no call, or too long or deep.
    """
    if len(text) > MAX_LENGTH:
        raise CallError(text[:40] + "…", f"the text has {len(text)} characters, more than {MAX_LENGTH}")
    control = next((c for c in text if not c.isprintable() and c not in "\n\r\t"), None)
    if control is not None:  # its place is not shown: the line would reach the terminal
        raise CallError(text, f"it has the control character {control!r}")
    text = as_written(_PRINTED.sub("", text.strip()).removesuffix(","))
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        column = getattr(error, "offset", None)
        place = None if column is None else column - 1
        raise CallError(text, f"not a valid Python expression: {error.args[0]}", place) from None
    modules, body = imported_modules(body), [each for each in body if not isinstance(each, ast.Import | ast.ImportFrom)]
    statement = body[0] if len(body) == 1 else None
    node = getattr(statement, "value", None) if isinstance(statement, ast.Expr | ast.Assign) else None
    while isinstance(node, ast.Call) and (inner := _inner_call(node)):
        node = inner
    if not isinstance(node, ast.Call):
        raise CallError(text, "it must be one constructor call, such as nn.Conv2d(3, 16, 3)", 0)
    name = _dotted(node.func)
    if name is None:
        raise CallError(text, "the constructor must be a plain name, such as nn.Conv2d", node.func.col_offset)
    head, dot, rest = name.partition(".")
    name = f"{modules.get(head, head)}{dot}{rest}"
    for argument in node.args:
        if isinstance(argument, ast.Starred):
            raise CallError(text, "*arguments cannot be read", argument.col_offset)
    kwargs: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise CallError(text, "**arguments cannot be read", keyword.value.col_offset)
        kwargs[keyword.arg] = _literal(text, keyword.value, 0)
    return ConstructorCall(text, name, tuple(_literal(text, a, 0) for a in node.args), kwargs)


def as_written(printed: str) -> str:
    """Return the code of a layer that PyTorch has printed: words have quotes, and a lazy layer no 0 as channels."""
    return _LAZY.sub(r"\1(", _WORD.sub(r"='\1'", printed))


def imported_modules(body: Sequence[ast.stmt]) -> dict[str, str]:
    """Return the dotted names that imports give to names: ``nn`` is ``mlx.nn`` after ``import mlx.nn as nn``."""
    found: dict[str, str] = {}
    for statement in body:
        if isinstance(statement, ast.Import):
            found |= {one.asname: one.name for one in statement.names if one.asname}
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            found |= {one.asname or one.name: f"{statement.module}.{one.name}" for one in statement.names}
    return found


_EQUINOX = re.compile(r"Conv(Transpose)?(\dd)?")
_FRAMEWORK_OF = (
    ("openvino", re.compile(r"(group_)?convolution(_backprop_data)?")),
    ("torch", re.compile(r"(Lazy)?Conv(Transpose)?\dd")),
    ("keras", re.compile(r"(Depthwise|Separable)?Conv(olution)?\dD(Transpose)?")),
    ("onnx", re.compile(r"make_node")),
)
_ONNX_WORDS = {"W", "kernel_shape", "pads", "auto_pad", "dilations", "group"}
_NNX_WORDS = {"in_features", "out_features", "rngs"}


def adapter_of(call: ConstructorCall) -> str:
    """Return the adapter whose framework has this constructor: by its name, else by its arguments' names.

    Equinox's and MLX's layers have PyTorch's names, and are recognised by the module, or by Equinox's ``key``. nnx,
    linen and ONNX have ``Conv`` and ``ConvTranspose``: without an argument that only one of them has, the module must
    be written.

    Raises:
        CallError: where no framework has it, or more than one could.
    """
    modules, words = call.name.split(".")[:-1], set(call.kwargs)
    if _EQUINOX.fullmatch(call.function) and ({"eqx", "equinox"} & set(modules) or {"key", "num_spatial_dims"} & words):
        return "equinox"
    head = modules[0] if modules else ""
    if head == "mlx":
        return "mlx"
    if head in FOREIGN:
        raise CallError(
            call.text, f"{FOREIGN[head]} is no framework that is read here, and its {call.function} may differ", 0
        )
    for adapter, pattern in _FRAMEWORK_OF:
        if pattern.fullmatch(call.function):
            if head and head.rstrip("0123456789") not in _HEADS[adapter]:
                known = ", ".join(_HEADS[adapter][:2])
                raise CallError(call.text, f"{head} is not known as a module: write {known} or no module", 0)
            return adapter
    if call.function not in ("Conv", "ConvTranspose"):
        near = get_close_matches(call.function, _EXAMPLES, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise CallError(call.text, f"{call.function} is not a convolution{hint}", 0)
    if "nnx" in modules or words & _NNX_WORDS:
        return "flax"
    if "linen" in modules or "features" in words:
        return "flax-linen"
    if words & _ONNX_WORDS:
        return "onnx"
    positional = [*call.args, *([call.kwargs["kernel_size"]] if "kernel_size" in words else [])]
    if len(positional) == 2 and isinstance(positional[1], tuple):
        return "flax-linen"
    if len(positional) == 3 and isinstance(positional[2], tuple) and "kernel_size" in words:
        return "flax"
    either = f"nnx.{call.function} or linen.{call.function}"
    raise CallError(call.text, f"{call.name} may be nnx' or linen's: write {either}", 0)


_EXAMPLES = (
    *(f"Conv{n}{d}" for n in (1, 2, 3) for d in "dD"),
    *(f"ConvTranspose{n}d" for n in (1, 2, 3)),
    *(f"Conv{n}DTranspose" for n in (1, 2, 3)),
    *("DepthwiseConv1D", "DepthwiseConv2D", "LazyConv2d", "Conv", "ConvTranspose", "make_node"),
)


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = _dotted(node.value)
        return None if head is None else f"{head}.{node.attr}"
    return None


def _literal(text: str, node: ast.expr, depth: int) -> Any:
    """Return the value of a literal: numbers, strings, booleans, None, tuples and lists of such; else Unread."""
    if depth > MAX_DEPTH:
        raise CallError(text, f"more than {MAX_DEPTH} levels of brackets", node.col_offset)
    if isinstance(node, ast.Tuple | ast.List):
        values = tuple(_literal(text, item, depth + 1) for item in node.elts)
        unread = next((v for v in values if isinstance(v, Unread)), None)
        return values if unread is None else unread
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        sign, node = -1, node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | str | None) and sign == 1:
        return node.value
    if isinstance(node, ast.Constant) and type(node.value) is int:
        if abs(node.value) >= 10**MAX_DIGITS:
            raise CallError(text, f"a number of more than {MAX_DIGITS} digits", node.col_offset)
        return sign * node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        left, right = (_literal(text, side, depth + 1) for side in (node.left, node.right))
        if type(left) is type(right) is int and not (right == 0 and isinstance(node.op, ast.FloorDiv | ast.Mod)):
            return _ARITHMETIC[type(node.op)](left, right)
    return Unread(ast.get_source_segment(text.strip(), node) or "…", node.col_offset)


def _inner_call(node: ast.Call) -> ast.Call | None:
    """Return the layer that is applied at once, or that a weight norm wraps; None for a plain constructor."""
    if isinstance(node.func, ast.Call):
        return node.func
    wrapped = (_dotted(node.func) or "").rpartition(".")[2] in ("weight_norm", "spectral_norm")
    return node.args[0] if wrapped and node.args and isinstance(node.args[0], ast.Call) else None
