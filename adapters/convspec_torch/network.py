"""The words of PyTorch: what each layer, function and method means."""

from __future__ import annotations

from typing import Any

from convspec.contract import ConvSpec
from convspec.contract.network_words import Arguments, Vocabulary, Word
from convspec.spec import steps
from convspec_torch.parse import spec_of

_CONV = (
    "in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True, "
    "padding_mode='zeros', device=None, dtype=None"
)
_FIELDS = (
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
    "bias",
    "padding_mode",
)


def _conv(ndim: int) -> Word:
    def build(a: Arguments) -> ConvSpec:
        return spec_of({name: getattr(a, name) for name in _FIELDS}, ndim, transposed=False)

    return Word(_CONV, build, "NCHW")


def _per_axis(value: Any, ndim: int) -> Any:
    return (value,) * ndim if isinstance(value, int) else value


def _max_pool(ndim: int) -> Word:
    def build(a: Arguments) -> steps.Step:
        stride, padding, dilation = (_per_axis(v, ndim) for v in (a.stride, a.padding, a.dilation))
        return steps.MaxPool(_per_axis(a.kernel_size, ndim), stride, padding, dilation, a.ceil_mode)

    return Word("kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False", build, "NCHW")


VOCABULARY = Vocabulary(
    title="PyTorch",
    modules={"torch": ("torch",), "torch.nn": ("nn",), "torch.nn.functional": ("F",)},
    layout="NCHW",
    layers={
        **{f"Conv{n}d": _conv(n) for n in (1, 2, 3)},
        **{f"MaxPool{n}d": _max_pool(n) for n in (1, 2, 3)},
        "ReLU": Word("inplace=False", steps.ReLU()),
        "Linear": Word(
            "in_features, out_features, bias=True, device=None, dtype=None",
            lambda a: steps.Linear(a.in_features, a.out_features, a.bias),
        ),
        "Flatten": Word("start_dim=1, end_dim=-1", lambda a: steps.Flatten(a.start_dim, a.end_dim)),
    },
    functions={
        "relu": Word("input, inplace=False", steps.ReLU()),
        "flatten": Word("input, start_dim=0, end_dim=-1", lambda a: steps.Flatten(a.start_dim, a.end_dim)),
    },
    methods={
        "view": Word(
            "input, *sizes", lambda a: steps.Reshape(a.sizes[0] if isinstance(a.sizes[0], tuple) else a.sizes)
        ),
    },
    special={"Sequential": "sequence", "ModuleList": "list", "ModuleDict": "dict"},
)
