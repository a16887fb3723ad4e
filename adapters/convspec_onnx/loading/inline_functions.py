"""Inline the functions of a model: each call becomes the function's nodes, named by the path to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx
from onnx import helper

from convspec.errors import RequestError

_MAX_NODES = 200_000  # nested functions could otherwise multiply without end

_Key = tuple[str, str, str]  # domain, name and overload of a function


def inline(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of the model that calls no function; node names are not empty, and unique within a graph.

    Raises:
        RequestError: for functions that call one another in a circle or too often, or need another opset.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.functions[:]
    versions = {entry.domain: entry.version for entry in result.opset_import}
    known = set(versions)
    for function in model.functions:
        for entry in function.opset_import:
            if versions.setdefault(entry.domain, entry.version) != entry.version:
                raise RequestError(
                    f"function {function.name!r} is written for opset {entry.version} of {entry.domain or 'ONNX'!r}, "
                    f"but the model for {versions[entry.domain]}: convspec reads one opset per domain"
                )
    result.opset_import.extend(helper.make_opsetid(d, version) for d, version in versions.items() if d not in known)
    inliner = _Inliner({(f.domain, f.name, f.overload): f for f in model.functions})
    inliner.inline_graph(result.graph, _Call())
    return result


@dataclass(frozen=True)
class _Call:
    """The call whose nodes are inlined: new names of tensors, values of attributes, and the calls around it."""

    rename: Callable[[str], str] = str
    prefix: str = ""
    attributes: Mapping[str, onnx.AttributeProto] | None = None
    stack: tuple[_Key, ...] = ()


@dataclass
class _Inliner:
    functions: Mapping[_Key, onnx.FunctionProto]
    count: int = 0

    def inline_graph(self, graph: onnx.GraphProto, call: _Call) -> None:
        """Inline a graph in place and rename its tensors."""
        for entries in (graph.input, graph.output, graph.value_info, graph.initializer):
            for entry in entries:
                entry.name = call.rename(entry.name)
        for sparse in graph.sparse_initializer:
            sparse.values.name = call.rename(sparse.values.name)
        nodes = self.inline_nodes(graph.node, replace(call, prefix=""))
        del graph.node[:]
        graph.node.extend(nodes)

    def inline_nodes(self, nodes: Iterable[onnx.NodeProto], call: _Call) -> list[onnx.NodeProto]:
        """Return copies of the nodes, function calls inlined."""
        copies: list[onnx.NodeProto] = []
        taken: set[str] = set()
        for index, node in enumerate(nodes):
            name = node.name or f"{node.op_type}_{index}"
            name = name if name not in taken else f"{name}#{index}"
            taken.add(name)
            copy = self.copy_node(node, f"{call.prefix}{name}", call)
            key = (node.domain, node.op_type, node.overload)
            copies += self.inline_call(copy, key, call.stack) if key in self.functions else [copy]
            self.count += 1
            if self.count > _MAX_NODES:
                raise RequestError(f"with its functions inlined, the model has more than {_MAX_NODES} nodes")
        return copies

    def copy_node(self, node: onnx.NodeProto, name: str, call: _Call) -> onnx.NodeProto:
        """Return the node with its new name, tensors renamed and references to attributes replaced by their values."""
        copy, known = onnx.NodeProto(), call.attributes or {}
        copy.CopyFrom(node)
        copy.name = name
        copy.input[:] = [entry and call.rename(entry) for entry in node.input]
        copy.output[:] = [entry and call.rename(entry) for entry in node.output]
        del copy.attribute[:]
        for attribute in node.attribute:
            reference = attribute.ref_attr_name
            if reference and reference not in known:
                continue
            entry = copy.attribute.add()
            entry.CopyFrom(known[reference] if reference else attribute)
            entry.name = attribute.name
            if not reference:
                for body in subgraphs(entry):
                    self.inline_graph(body, call)
        return copy

    def inline_call(self, node: onnx.NodeProto, key: _Key, stack: tuple[_Key, ...]) -> list[onnx.NodeProto]:
        """Return the nodes of the function that ``node`` calls."""
        if key in stack:
            raise RequestError(f"function {key[1]!r} calls itself")
        function, prefix = self.functions[key], f"{node.name}/"
        names = dict.fromkeys(function.input, "") | dict(zip(function.input, node.input, strict=False))
        outputs = [pair for pair in zip(function.output, node.output, strict=False) if pair[1]]
        passed = [(names[inner], outer) for inner, outer in outputs if inner in names]
        names |= {inner: outer for inner, outer in outputs if inner not in names}

        def rename(name: str) -> str:
            return names.get(name, prefix + name) if name else ""

        attributes = {a.name: a for a in function.attribute_proto} | {a.name: a for a in node.attribute}
        nodes = self.inline_nodes(function.node, _Call(rename, prefix, attributes, (*stack, key)))
        for index, (inner, outer) in enumerate(passed):  # an input that is also an output
            nodes.append(helper.make_node("Identity", [inner], [outer], f"{prefix}passed_{index}"))
        return nodes


def subgraphs(attribute: onnx.AttributeProto) -> Sequence[onnx.GraphProto]:
    """Return the graphs that an attribute holds: the bodies of If, Loop and Scan."""
    return [attribute.g] if attribute.HasField("g") else list(attribute.graphs)


def tensors_read(node: onnx.NodeProto) -> set[str]:
    """Return the tensors that a node reads, including those that its bodies take from outside."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for body in subgraphs(attribute):
            names |= _outer_tensors(body)
    return names


def _outer_tensors(body: onnx.GraphProto) -> set[str]:
    """Return the tensors that a body takes from the graphs around it."""
    own = {entry.name for entry in body.input} | {tensor.name for tensor in body.initializer}
    own |= {sparse.values.name for sparse in body.sparse_initializer}
    needed: set[str] = {entry.name for entry in body.output}
    for node in body.node:
        needed |= tensors_read(node)
        own |= set(node.output)
    return needed - own - {""}
