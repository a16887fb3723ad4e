"""What Python's operators, subscripts, attributes and methods do with the tensors of a text."""

from __future__ import annotations

import ast
from typing import Any

from convspec.contract.network_words import NotKnown, Symbol, Tensor, Vocabulary, Word
from convspec.errors import printable
from convspec.layers.networks.interpreter import Interpreter
from convspec.layers.networks.subscripts import moves_of
from convspec.layers.networks.values import symbols_in, tensors_in
from convspec.spec import steps

_OPERATORS = {"Add": steps.Add, "Sub": steps.Subtract, "Mult": steps.Multiply, "Div": steps.Divide}


class MethodOfTensor:
    """A method of a tensor, or of an object of the text that its framework has, by its name."""

    def __init__(self, tensor: Any, name: str) -> None:
        self.tensor, self.name = tensor, name


class TensorOperations(Interpreter):
    """Operations on tensors, as words; a subclass takes down their calls."""

    words: Vocabulary

    def apply(
        self, word: Word, kind: str, args: list[Any], kwargs: dict[str, Any], node: ast.AST, path: str = ""
    ) -> Any:
        """Call a function or method on its arguments."""
        raise NotImplementedError

    def unknown(self, kind: str, text: str, reads: list[Tensor], node: ast.AST, problem: str, path: str = "") -> Tensor:
        """Take down a call of which nothing is known but what it reads."""
        raise NotImplementedError

    def tensor_operation(self, name: str, args: list[Any], node: ast.AST) -> Any:
        if name == "Subscript":
            return self._subscript(args[0], args[1], node)
        if symbols := symbols_in(args):
            problem = f"it depends on {printable(symbols[0].text, 60)}"
            return self.unknown(name.lower(), self.source(node), tensors_in(args), node, problem)
        if name in _OPERATORS:
            numbers = [a for a in args if isinstance(a, int | float)]
            kind = _OPERATORS[name]
            fields = {"constant": float(numbers[0])} if numbers else {}
            if numbers and kind in (steps.Subtract, steps.Divide):
                fields["reflected"] = not isinstance(args[0], Tensor)
            word, args = Word("a, b", kind(**fields)), [*args]
        elif name == "MatMult":
            word = Word("a, b", steps.MatMul())
        elif name == "USub":
            word = Word("a", steps.Pointwise("negative"))
        elif name == "Pow" and isinstance(args[1], int | float):
            word = Word("a, b", steps.Power(args[1]))
        else:
            return self.unknown(
                name.lower(), self.source(node), tensors_in(args), node, f"{name} of tensors is not known"
            )
        return self.apply(
            word, {"Mult": "multiply", "Sub": "subtract", "Div": "divide"}.get(name, name.lower()), args, {}, node
        )

    def tensor_attribute(self, tensor: Tensor, name: str, node: ast.AST) -> Any:
        if name in ("shape", "ndim") and tensor.shape is not None:
            return tensor.shape if name == "shape" else len(tensor.shape)
        if name in ("shape", "ndim", "device", "dtype", "requires_grad", "is_cuda"):
            return Symbol(self.source(node))
        if name in ("T", "value") and (word := self.words.methods.get(name)):
            return self.apply(word, name, [tensor], {}, node)
        return tensor if name == "data" else MethodOfTensor(tensor, name)

    def call(self, function: Any, args: list[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        if not isinstance(function, MethodOfTensor):
            return super().call(function, args, kwargs, node)
        word = self.words.methods.get(function.name)
        if word is None:
            tensors = [function.tensor, *tensors_in([*args, *kwargs.values()])]
            problem = f"the method {function.name} of a tensor is not known"
            return self.unknown(function.name, self.source(node), tensors, node, problem)
        return self.apply(word, function.name, [function.tensor, *args], kwargs, node)

    def _subscript(self, tensor: Tensor, key: Any, node: ast.AST) -> Any:
        try:
            made = moves_of(tensor, key, batch=int(self.words.samples))
        except NotKnown as error:
            return self.unknown("slice", self.source(node), tensors_in([tensor, key]), node, str(error))
        return self.apply(Word("x", made or steps.Identity()), "slice", [tensor], {}, node)
