"""A model's configuration – of ``get_config()`` or ``to_json()``, as JSON or as a dictionary of Python – as code."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

from convspec.errors import CallError

Config: TypeAlias = Mapping[str, Any]
_LEFT_OUT = ("initializer", "regularizer", "constraint")  # what changes no shape
_TENSOR = "__keras_tensor__"


def code_of(text: str) -> str | None:
    """Return the code of the model whose configuration the text has; None for any other text."""
    if "class_name" not in text or "layers" not in text:
        return None
    config = _read(text[text.find("{") : text.rfind("}") + 1])
    own = config.get("config", config) if isinstance(config, dict) else None
    if not isinstance(own, dict) or not isinstance(own.get("layers"), list):
        return None
    writer = _Writer()
    name = writer.model(own)
    return "\n".join(["import keras", "from keras import layers", *writer.lines, f"model = {name}", ""])


def _read(body: str) -> Any:
    with suppress(ValueError):
        return json.loads(body)
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return ast.literal_eval(body)
    return None


class _Writer:
    """The statements of a model, and of those inside it before it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0

    def model(self, config: Config) -> str:
        """Write a model, and return its variable."""
        name = config.get("name")
        called = f", name={name!r}" if name else ""
        if not any("inbound_nodes" in layer for layer in config["layers"]):
            items = [self.value(layer) for layer in config["layers"]]
            return self.named(f"keras.Sequential([{', '.join(items)}]{called})")
        tensors: dict[tuple[Any, ...], str] = {}
        waiting = [(layer, self.value(layer)) for layer in config["layers"]]
        waiting = [(layer, text if _is_input(layer) else self.named(text)) for layer, text in waiting]
        calls = list(self._calls(waiting, tensors))
        while calls:  # a layer that is used again may stand before what it reads
            left = [one for one in calls if not self._call(*one, tensors)]
            if len(left) == len(calls):
                raise CallError(str(name), "its nodes read tensors that no node gives")
            calls = left
        ends = [_each(config[key], tensors) for key in ("input_layers", "output_layers")]
        return self.named(f"keras.Model({', '.join(ends)}{called})")

    def named(self, text: str) -> str:
        """Write an assignment to a new variable, and return it."""
        self.count += 1
        self.lines.append(f"v{self.count} = {text}")
        return f"v{self.count}"

    def _calls(self, layers: Any, tensors: dict[tuple[Any, ...], str]) -> Iterator[tuple[str, int, str, Any]]:
        for layer, text in layers:
            name = layer.get("name") or layer["config"]["name"]
            if _is_input(layer):
                tensors[name, 0, 0] = self.named(text)
            for number, node in enumerate(layer["inbound_nodes"]):
                yield name, number, text, node

    def _call(self, name: str, number: int, layer: str, node: Any, tensors: dict[tuple[Any, ...], str]) -> bool:
        """Write a call of a layer; return whether all that it reads is there."""
        try:
            if isinstance(node, list):  # Keras 2
                given = [_each(tuple(read[:3]), tensors) for read in node]
                arguments = given if len(given) == 1 else [f"[{', '.join(given)}]"]
            else:
                words = {k: v for k, v in node.get("kwargs", {}).items() if v is not None}
                arguments = [self.value(one, tensors) for one in node["args"]]
                arguments += [f"{key}={self.value(one, tensors)}" for key, one in words.items()]
        except KeyError:
            return False
        tensors[name, number, 0] = self.named(f"{layer}({', '.join(arguments)})")
        return True

    def value(self, value: Any, tensors: Mapping[tuple[Any, ...], str] | None = None) -> str:
        """Return a value of a configuration as Python; lists of numbers are tuples."""
        if isinstance(value, list | tuple):
            inner = [self.value(one, tensors) for one in value]
            plain = all(isinstance(one, int | float | type(None)) for one in value)
            return f"({', '.join(inner)}{',' * (len(inner) == 1)})" if plain else f"[{', '.join(inner)}]"
        if not isinstance(value, dict) or "class_name" not in value:
            return repr(value)
        kind, config = value["class_name"], value.get("config")
        if not isinstance(config, dict):
            return repr(config)
        if kind == _TENSOR and tensors is not None:
            return tensors[tuple(config["keras_history"])]
        if "layers" in config:
            return self.model(config)
        return self._layer(kind, config)

    def _layer(self, kind: str, config: Config) -> str:
        name = f"name={config['name']!r}" if "name" in config else ""
        if kind == "InputLayer":
            shape = config.get("batch_shape") or config["batch_input_shape"]
            return f"keras.Input({tuple(shape[1:])!r}, {name})"
        kept = {key: one for key, one in config.items() if one is not None and key not in ("trainable", "dtype")
                and not key.endswith(_LEFT_OUT)}  # fmt: skip
        return f"layers.{kind}({', '.join(f'{key}={self.value(one)}' for key, one in kept.items())})"


def _is_input(layer: Config) -> bool:
    return bool(layer["class_name"] == "InputLayer")


def _each(ends: Any, tensors: Mapping[tuple[Any, ...], str]) -> str:
    """Return the tensors of one end, or of several."""
    if len(ends) == 3 and isinstance(ends[0], str):
        return tensors[tuple(ends)]
    return f"[{', '.join(_each(one, tensors) for one in ends)}]"
