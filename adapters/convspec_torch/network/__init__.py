"""The words of PyTorch: what each layer, function and method means, as people write them and as PyTorch prints them."""

from __future__ import annotations

from typing import Any

from convspec.contract.network_words import Arguments, Meanings, Placed, Value, Vocabulary, Word
from convspec.spec import ConvSpec
from convspec.spec.steps import Step
from convspec_torch.network import activations, functions, layers
from convspec_torch.network.printed import read_printed


def _weight_norm(a: Arguments) -> Value:
    """Return the layer, which learns the norms of its weight too: one for each position of the axis ``dim``."""
    word: Word | None = getattr(a.module, "word", None)
    if word is not None:
        inner = word

        def build(own: Arguments) -> Meanings:
            made: Any = inner.means(own)
            parts = [made] if isinstance(made, ConvSpec | Step | Placed) else made
            return [Placed(p, inner.layout, p.num_parameters + _norms(p, a.dim))
                    if isinstance(p, ConvSpec | Step) and p.num_parameters else p for p in parts]  # fmt: skip

        a.module.word = Word(inner.signature, build, inner.layout)
    return Value(a.module)


def _norms(step: ConvSpec | Step, dim: int | None) -> int:
    if isinstance(step, Step):
        shape = step.arrays["weight"]
    else:
        sides = (step.out_channels, step.in_channels)
        first, second = sides[::-1] if step.transposed else sides
        shape = (first, second // step.groups, *step.kernel_size)
    return 1 if dim in (None, -1) else shape[dim or 0]


VOCABULARY = Vocabulary(
    title="PyTorch",
    modules={"torch": ("torch",), "torch.nn": ("nn",), "torch.nn.functional": ("F", "functional"),
             "torchvision.ops": ("ops",), "torchvision": ("torchvision",)},
    layout="NCHW",
    flatten=("{module}Flatten()", "torch.flatten({x}, 1)"),
    layers={**activations.LAYERS, **layers.LAYERS},
    functions={**functions.FUNCTIONS, "weight_norm": Word("module, name='weight', dim=0", _weight_norm)},
    methods=functions.METHODS,
    special={
        "Sequential": "sequence", "ModuleList": "list", "ModuleDict": "dict", "ParameterList": "list",
        "ParameterDict": "dict", "Parameter": "parameter", "Buffer": "parameter",
        "checkpoint": "call",
        **dict.fromkeys(("spectral_norm", "orthogonal", "remove_weight_norm", "DataParallel", "compile"), "wrapper"),
    },
    read_printed=read_printed,
)  # fmt: skip
