"""The vocabulary of Keras: layers, functions, and the names under which people import them."""

from __future__ import annotations

import re

from convspec.contract.network_words import Vocabulary
from convspec_keras.network.config import code_of
from convspec_keras.network.functions import FUNCTIONS
from convspec_keras.network.layers import ALIASES, LAYERS
from convspec_keras.network.summary import read_summary

_ROOTS = {"keras": ("keras", "k"), "tensorflow.keras": (), "tf_keras": ("tf_keras",), "keras.src": ()}
_MODULES = {"layers": ("layers", "L", "kl"), "models": ("models",), "ops": ("ops",), "backend": ("backend", "K"),
            "activations": ("activations",), "applications": ("applications",)}  # fmt: skip


def first_name(kind: str) -> str:
    """Return the name of the first layer of a class, as Keras makes it: ``MaxPool2D`` is ``max_pooling2d``."""
    alias = re.fullmatch(r"(\w+?)(\dD(?:Transpose)?)", kind)
    name = f"{ALIASES.get(alias[1], alias[1])}{alias[2]}" if alias else {"Model": "Functional"}.get(kind, kind)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


VOCABULARY = Vocabulary(
    title="Keras",
    modules={
        **{f"{root}.{name}": short for root in _ROOTS for name, short in _MODULES.items()}, **_ROOTS,
        "tensorflow": ("tf",),
    },
    layout="NHWC",
    layers=LAYERS,
    functions=FUNCTIONS,
    special={
        "Sequential": "sequence", "Input": "input", "InputLayer": "input", "Model": "graph", "Functional": "graph",
        "Lambda": "wrapper", "self.add_weight": "parameter",
    },
    bases=("Model", "Layer", "Sequential", "Functional"),
    forward=("call",),
    counts_statistics=True,
    read_printed=read_summary,
    read_config=code_of,
    default_name=first_name,
    separator="/",
    sequence_path="/{}",
    left_out={"training": False},
    prepare="build",
)  # fmt: skip
