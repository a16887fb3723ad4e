"""A model without functions: each call replaced by the function's nodes, which are named by the path to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from convspec.errors import RequestError

_MOST = 200_000  # nodes; nested functions could otherwise multiply without end

Rename = Callable[[str], str]


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model, no node of it nameless, no two of one graph of the same name, and no function called.

    Raises:
        RequestError: where functions call one another in a circle or too often, or need another opset.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.functions[:]
    work = _Inliner({(f.domain, f.name, f.overload): f for f in model.functions})
    versions = {entry.domain: entry.version for entry in result.opset_import}
    for function in model.functions:
        for entry in function.opset_import:
            if versions.setdefault(entry.domain, entry.version) != entry.version:
                raise RequestError(
                    f"function {function.name!r} is written for opset {entry.version} of {entry.domain or 'ONNX'!r}, "
                    f"the model for {versions[entry.domain]}: this is not read"
                )
    known = {entry.domain for entry in result.opset_import}
    result.opset_import.extend(
        onnx.helper.make_opsetid(domain, version) for domain, version in versions.items() if domain not in known
    )
    work.graph(result.graph, lambda name: name, {}, ())
    return result


@dataclass
class _Inliner:
    functions: Mapping[tuple[str, str, str], onnx.FunctionProto]
    made: int = 0

    def graph(
        self,
        graph: onnx.GraphProto,
        rename: Rename,
        given: Mapping[str, onnx.AttributeProto],
        calls: tuple[tuple[str, str, str], ...],
    ) -> None:
        """Expand one graph in place, its tensors renamed."""
        for part in (graph.input, graph.output, graph.value_info, graph.initializer):
            for entry in part:
                entry.name = rename(entry.name)
        for sparse in graph.sparse_initializer:
            sparse.values.name = rename(sparse.values.name)
        nodes = self.nodes(graph.node, "", rename, given, calls)
        del graph.node[:]
        graph.node.extend(nodes)

    def nodes(
        self,
        nodes: Iterable[onnx.NodeProto],
        prefix: str,
        rename: Rename,
        given: Mapping[str, onnx.AttributeProto],
        calls: tuple[tuple[str, str, str], ...],
    ) -> list[onnx.NodeProto]:
        """Copies of the nodes, calls expanded."""
        found: list[onnx.NodeProto] = []
        taken: set[str] = set()
        for index, node in enumerate(nodes):
            name = node.name or f"{node.op_type}_{index}"
            name = name if name not in taken else f"{name}#{index}"
            taken.add(name)
            copy = self.renamed(node, f"{prefix}{name}", rename, given, calls)
            key = (node.domain, node.op_type, node.overload)
            if key in self.functions:
                found += self.expanded(copy, key, calls)
            else:
                found.append(copy)
            self.made += 1
            if self.made > _MOST:
                raise RequestError(f"with its functions written out, the model has more than {_MOST} nodes")
        return found

    def renamed(
        self,
        node: onnx.NodeProto,
        name: str,
        rename: Rename,
        given: Mapping[str, onnx.AttributeProto],
        calls: tuple[tuple[str, str, str], ...],
    ) -> onnx.NodeProto:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = name
        copy.input[:] = [entry and rename(entry) for entry in node.input]
        copy.output[:] = [entry and rename(entry) for entry in node.output]
        del copy.attribute[:]
        for attribute in node.attribute:
            if attribute.ref_attr_name and attribute.ref_attr_name not in given:
                continue
            entry = copy.attribute.add()
            entry.CopyFrom(given[attribute.ref_attr_name] if attribute.ref_attr_name else attribute)
            entry.name = attribute.name
            if not attribute.ref_attr_name:
                for body in bodies(entry):
                    self.graph(body, rename, given, calls)
        return copy

    def expanded(
        self, call: onnx.NodeProto, key: tuple[str, str, str], calls: tuple[tuple[str, str, str], ...]
    ) -> list[onnx.NodeProto]:
        """The nodes of the function that ``call`` calls."""
        if key in calls:
            raise RequestError(f"function {key[1]!r} calls itself")
        function = self.functions[key]
        prefix = f"{call.name}/"
        names = dict.fromkeys(function.input, "") | dict(zip(function.input, call.input, strict=False))
        passed = [
            (names[inner], outer)
            for inner, outer in zip(function.output, call.output, strict=False)
            if inner in names and outer
        ]
        outputs = dict(zip(function.output, call.output, strict=False))
        names |= {inner: outer for inner, outer in outputs.items() if outer and inner not in names}

        def rename(name: str) -> str:
            return names.get(name, prefix + name) if name else ""

        given = {a.name: a for a in function.attribute_proto} | {a.name: a for a in call.attribute}
        nodes = self.nodes(function.node, prefix, rename, given, (*calls, key))
        for index, (inner, outer) in enumerate(passed):
            nodes.append(onnx.helper.make_node("Identity", [inner], [outer], f"{prefix}passed_{index}"))
        return nodes


def bodies(attribute: onnx.AttributeProto) -> Sequence[onnx.GraphProto]:
    """The graphs that an attribute holds."""
    if attribute.HasField("g"):
        return [attribute.g]
    found: Sequence[onnx.GraphProto] = attribute.graphs
    return found


def uses(node: onnx.NodeProto) -> set[str]:
    """Tensors that a node reads, those that its bodies take from outside included."""
    found = {name for name in node.input if name}
    for attribute in node.attribute:
        for body in bodies(attribute):
            found |= outside(body)
    return found


def outside(body: onnx.GraphProto) -> set[str]:
    """Tensors that a body takes from the graphs around it."""
    own = {entry.name for entry in body.input} | {tensor.name for tensor in body.initializer}
    own |= {sparse.values.name for sparse in body.sparse_initializer}
    needed: set[str] = {entry.name for entry in body.output}
    for node in body.node:
        needed |= uses(node)
        own |= set(node.output)
    return needed - own - {""}
