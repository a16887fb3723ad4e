"""Write a network in another framework's code: its steps in the target's axis order, one statement for each."""

from __future__ import annotations

import keyword
import re
import textwrap
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from convspec.contract import registry
from convspec.contract.network_code import Code, Line, Program, Reads, Target
from convspec.contract.network_words import NotKnown, Placed
from convspec.errors import ShapeError, UnsupportedError
from convspec.layers.networks.rows import Row, Trace, outputs
from convspec.layers.networks.samples import of_sample
from convspec.spec import ConvSpec, steps
from convspec.spec.steps import Step

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, repr=False)
class NetworkCode:
    """A network in another framework's code.

    Attributes:
        adapter: the target.
        source: the program, which defines ``model``.
        missing: what has no counterpart there: path and reason; the program raises NotImplementedError in its place.
        remarks: what a reader must know.
        inputs: shapes of the inputs in the target's axis order.
    """

    adapter: str
    source: str
    missing: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]
    inputs: tuple[Shape, ...]

    def __str__(self) -> str:
        """Return the program below its remarks."""
        remarks = ["Not run: the source is a text, without weights.", *self.remarks]
        remarks += [f"{path} has no counterpart: {reason}" for path, reason in self.missing]
        lines = [line for text in remarks for line in textwrap.wrap(text, 98)]
        return "\n".join([*(f"# {line}" for line in lines), "", self.source])


def write_network(trace: Trace, layout: str, to: str, shapes: Sequence[Shape], name: str = "Net") -> NetworkCode:
    """Return the code of a network for another framework.

    Args:
        trace: the network for these inputs; all shapes must be known.
        layout: of its tensors.
        to: name of an adapter.
        shapes: of its inputs.

    Raises:
        UnsupportedError: where the adapter writes no networks.
        ShapeError: where a shape is not known.
    """
    target = registry.adapter(to).network_target()
    if target is None:
        raise UnsupportedError(f"adapter {to!r} writes no networks")
    return _Writer(trace, layout, target, shapes).write(to, name)


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the program: its variable, its shape in a batch, and whether its axes are in the target's order.

    ``batched`` says that it has an axis of samples, which weights have not. ``line``: the number of the statement that
    makes a weight which nothing else reads, and which can be made in another shape.
    """

    name: str
    shape: Shape
    image: bool
    batched: bool = True
    line: int | None = None


class _Writer:
    def __init__(self, trace: Trace, layout: str, target: Target, shapes: Sequence[Shape]) -> None:
        self.trace, self.source, self.target = trace, layout, target
        self.shapes = dict(zip(trace.inputs, shapes, strict=True))
        self.tensors: dict[int, _Tensor] = {}
        self.lines: list[Line] = []
        self.missing: list[tuple[str, str]] = []
        self.remarks: list[str] = []
        self.layers: dict[str, str] = {}
        self.busy: set[str] = set()  # variables that the current row reads
        self.paths = Counter(row.path for row in trace.rows)
        self.uses = Counter(n for row in trace.rows for n in row.reads) + Counter(trace.results)
        self.images = self._image_inputs()

    @property
    def same(self) -> bool:
        """Whether both frameworks have their axes in the same order."""
        return self.source == self.target.layout

    def write(self, adapter: str, name: str) -> NetworkCode:
        for i, number in enumerate(self.trace.inputs):
            image = number in self.images
            shape = self._order(self.shapes[number]) if image else self.shapes[number]
            plain = "x" if len(self.trace.inputs) == 1 else f"x{i}"
            self.tensors[number] = _Tensor(plain, shape, image)
        inputs = tuple((self.tensors[n].name, self.tensors[n].shape) for n in self.trace.inputs)
        for row in self.trace.rows:
            self._row(row)
        results = [self.tensors[number] for number in self.trace.results]
        for tensor in results:
            if not self.same and len(tensor.shape) > 2 and not tensor.image:
                self._remark("A result has its axes in the order of the source.")
        chain = all(
            line.first
            and len(line.reads) == len(line.writes) == 1
            and line.reads == line.writes
            and (line.code.item or (line.layer and line.code.call == "{layer}({x})"))
            for line in self.lines
        )
        names, made = tuple(t.name for t in results), tuple(t.shape for t in results)
        sequence = chain and len(inputs) == len(results) == 1
        program = Program(name, inputs, tuple(self.lines), names, made, sequence)
        return NetworkCode(
            adapter,
            self.target.assemble(program),
            tuple(self.missing),
            tuple(self.remarks),
            tuple(s for _, s in inputs),
        )

    # -- orders of axes -----------------------------------------------------------------------------------------

    def _axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes of a tensor of the source in the target's order."""
        if self.same or rank < 3:
            return tuple(range(rank))
        return (0, *range(2, rank), 1) if self.source == "NCHW" else (0, rank - 1, *range(1, rank - 1))

    def _order(self, shape: Shape) -> Shape:
        return tuple(shape[i] for i in self._axes(len(shape)))

    def _image_inputs(self) -> set[int]:
        """Return the inputs that a step reads as images, perhaps after steps that can have the target's axes."""
        found: set[int] = set()
        follows = {n: {n} for n in self.trace.inputs}
        for row in self.trace.rows:
            starts = {start for n in row.reads for start in follows.get(n, ())}
            placed = list(zip(row.steps, row.layouts, strict=True))
            if any(self._is_image(step, layout) and layout in ("", self.source) for step, layout in placed):
                found |= starts
            elif starts and all(isinstance(s, _NORMS) or self._moved(s, len(row.shape or ())) for s in row.steps):
                follows |= dict.fromkeys(row.writes, starts)
        return found

    def _is_image(self, step: ConvSpec | Step, layout: str) -> bool:
        return isinstance(step, ConvSpec | steps.Pool | steps.Resize) or bool(layout)

    def _to(self, tensor: _Tensor, *, image: bool) -> _Tensor:
        """Return a tensor in the target's order, or in the source's; a statement transposes it if it is not."""
        if tensor.image == image or len(tensor.shape) < 3 or self.same:
            return replace(tensor, image=image)
        axes = self._axes(len(tensor.shape))
        if not image:
            axes = tuple(axes.index(i) for i in range(len(axes)))
        shape = tuple(tensor.shape[i] for i in axes)
        moved = replace(tensor, name=self._name((), self.busy), shape=shape, image=image, line=None)
        self.busy.add(moved.name)
        self._statement(steps.Permute(axes), [tensor], [moved], "", image=False)
        return moved

    # -- rows ---------------------------------------------------------------------------------------------------

    def _row(self, row: Row) -> None:
        reads = [self.tensors[n] for n in row.reads if n in self.tensors]
        self.busy = {t.name for t in reads}
        for n in row.reads:
            self.uses[n] -= 1
        if reason := _beyond_steps(row):
            return self._absent(row, reads, reason)
        free = [self.tensors[n].name for n in row.reads if not self.uses[n]]
        current = reads
        for i, (step, layout) in enumerate(zip(row.steps, row.layouts, strict=True)):
            try:
                current = self._step(row, step, layout, current, free, last=i == len(row.steps) - 1)
            except NotKnown as error:
                return self._absent(row, reads, str(error))
        self.tensors.update(zip(row.writes, current, strict=True))
        return None

    def _absent(self, row: Row, reads: Sequence[_Tensor], reason: str) -> None:
        """Write a statement that raises, in the place of what has no counterpart."""
        self.missing.append((row.path, reason))
        if row.shape is None:
            raise ShapeError(f"{row.path}: {reason}: the shape after it is not known")
        made = _Tensor(self._name(), self._order(row.shape) if reads and reads[0].image else row.shape,
                       bool(reads and reads[0].image))  # fmt: skip
        text = f"raise NotImplementedError({f'{row.path}: {reason}'!r})"
        self.lines.append(Line(Code(call=text), "", tuple(t.name for t in reads) or ("x",), (made.name,)))
        self.tensors.update(dict.fromkeys(row.writes, made))

    def _step(
        self, row: Row, step: ConvSpec | Step, layout: str, reads: list[_Tensor], free: Sequence[str], *, last: bool
    ) -> list[_Tensor]:
        """Write one step; return what it gives."""
        own = step
        step, layout, reads, image = self._placed(step, layout, reads, row.writes)
        if isinstance(own, steps.Permute) and isinstance(step, steps.Identity):
            return [replace(reads[0], image=image, line=None)]
        reads, batched = self._batched(step, reads)
        shapes = [t.shape for t in reads]
        made = outputs(Placed(step, self.target.layout if layout else ""), shapes)
        results: list[_Tensor] = []
        for shape in made:
            results.append(_Tensor(self._name(free, {t.name for t in results}), tuple(shape), image, batched))
        self._statement(
            step, reads, results, row.path if row.is_layer or step.num_parameters else "", image=bool(layout)
        )
        if isinstance(step, steps.Parameter) and self.paths[row.path] == 1 == self.uses[row.writes[0]]:
            return [replace(results[0], line=len(self.lines) - 1)]
        return results

    def _placed(
        self, step: ConvSpec | Step, layout: str, reads: list[_Tensor], writes: Sequence[int]
    ) -> tuple[Any, str, list[_Tensor], bool]:
        """Return a step with the target's axes, its layout, what it reads, and whether its result is an image."""
        rank = max((len(t.shape) for t in reads), default=0)
        if isinstance(step, _NORMS) and not layout:
            channel = 1 if self.source == "NCHW" or rank < 3 else rank - 1
            if step.axis % rank == channel:
                step, layout = replace(step, axis=1), self.source
        if layout and layout != self.source and rank > 2:
            if layout != self.target.layout:
                raise NotKnown("its channels are on another axis than those of other layers")
            return step, layout, [self._to(t, image=False) for t in reads], False
        image = any(t.image and len(t.shape) > 2 for t in reads)
        if isinstance(step, steps.PReLU) and (layout or image) and not self.same and rank > 2:
            return self._moved(step, rank), "", [self._to(t, image=True) for t in reads], True
        if isinstance(step, steps.Permute) and not self.same and rank > 2:
            return self._permuted(step, reads[0])
        if isinstance(step, steps.Flatten) and not self.same and step.start == 1 and step.end in (-1, rank - 1):
            if image and sum(n > 1 for n in reads[0].shape[1:]) > 1:
                if not self._is_read_by_linear(writes):
                    reads = [self._to(t, image=False) for t in reads]
                else:
                    self._remark("Flattened features are in another order than in the source: port_weights moves them.")
            return steps.Flatten(), "", reads, False
        if self._is_image(step, layout):
            return step, layout or self.source, [self._to(t, image=True) for t in reads], True
        if self.same or rank < 3 or not image:
            return step, "", reads, image
        if isinstance(step, steps.Reshape) and sum(n > 1 for n in reads[0].shape[1:]) <= 1:
            return step, "", reads, False
        if moved := self._moved(step, rank):
            return moved, "", [self._aligned(t, rank) for t in reads], True
        if isinstance(step, steps.Reduce) and not step.keepdims and len(step.axes) >= rank - 2:
            return replace(step, axes=tuple(self._axis(a, rank) for a in step.axes)), "", reads, False
        return step, "", [self._to(t, image=False) for t in reads], False

    def _permuted(self, step: steps.Permute, read: _Tensor) -> tuple[Any, str, list[_Tensor], bool]:
        """Return a permutation of the target's axes; an identity where the tensor has the wanted order."""
        given = tuple(range(len(read.shape)))
        order = self._axes(len(given))
        axes = tuple(a % len(given) for a in step.axes)
        if not read.image and tuple(axes[i] for i in order) == given:
            return steps.Identity(), "", [read], True
        axes = tuple(order.index(a) for a in axes) if read.image else axes
        return steps.Identity() if axes == given else steps.Permute(axes), "", [read], False

    def _is_read_by_linear(self, tensors: Sequence[int]) -> bool:
        """Return whether only linear layers read these tensors, perhaps after functions of each element."""
        followed = set(tensors)
        for row in self.trace.rows:
            if not followed & {*row.reads}:
                continue
            kept = next((s for s in row.steps if not isinstance(s, _POINTWISE) or s.arrays), None)
            if not isinstance(kept, steps.Linear) and (kept or not row.steps or not followed >= {*row.reads}):
                return False
            followed |= {*row.writes} if kept is None else set()
        return not followed & {*self.trace.results}

    def _batched(self, step: ConvSpec | Step, reads: list[_Tensor]) -> tuple[list[_Tensor], bool]:
        """Return what a step reads, and whether its results are of a batch: weights without an axis of samples then."""
        rank = max((len(t.shape) for t in reads), default=0)
        if not any(t.batched for t in reads) and not (isinstance(step, steps.Expand) and len(step.shape) == rank):
            return reads, False
        if not self.target.samples:
            return reads, True
        found = []
        for tensor in reads:
            if tensor.batched or len(tensor.shape) < rank:
                found.append(tensor)
                continue
            if tensor.shape[0] != 1:
                raise NotKnown(f"a weight of shape {tensor.shape} differs between the samples of a batch")
            made = replace(tensor, name=self._name((), self.busy), batched=True, line=None)
            self.busy.add(made.name)
            self._statement(steps.Select(0, 0), [tensor], [made], "", image=False)
            found.append(made)
        return found, True

    def _aligned(self, tensor: _Tensor, rank: int) -> _Tensor:
        """Return a tensor in the target's order; one of fewer axes as it is broadcast in the source."""
        if len(tensor.shape) == rank:
            return self._to(tensor, image=True)
        padded = (1,) * (rank - len(tensor.shape)) + tensor.shape
        shape = self._order(padded)
        if sum(n > 1 for n in padded) > 1:
            raise NotKnown(f"a tensor of shape {tensor.shape} is broadcast along other axes")
        while len(shape) > 1 and shape[0] == 1 and not tensor.batched:
            shape = shape[1:]
        if shape == tensor.shape:
            return replace(tensor, image=True)
        if tensor.line is not None:
            (code,) = self._codes(steps.Parameter(shape), [], image=False)
            self.lines[tensor.line] = replace(self.lines[tensor.line], code=code)
            return replace(tensor, shape=shape, image=True)
        made = replace(tensor, name=self._name((), self.busy), shape=shape, image=True)
        self.busy.add(made.name)
        self._statement(steps.Reshape(shape), [tensor], [made], "", image=False)
        return made

    def _axis(self, axis: int, rank: int) -> int:
        """Return where an axis of the source is in the target; the last one is -1."""
        found = self._axes(rank).index(axis % rank)
        return -1 if found == rank - 1 else found

    def _moved(self, step: Any, rank: int) -> Step | None:
        """Return a step of an image that keeps its axes, with its axes in the target's order; None for another one."""
        if isinstance(step, steps.PReLU):
            return replace(step, shape=self._order((1, *step.shape, *[1] * (rank - 1 - len(step.shape))))[1:])
        if isinstance(step, _POINTWISE):
            return step
        if isinstance(step, steps.Concat | steps.Softmax | steps.GLU | steps.Split | steps.Linear):
            return replace(step, axis=self._axis(step.axis, rank))
        if isinstance(step, steps.LayerNorm):
            own = step.parameter_axes or step.axes
            moved = [self._axis(a, rank) for a in own]
            if len(own) == 1:
                axes = tuple(self._axis(a, rank) for a in step.axes)
                return replace(step, axes=axes, parameter_axes=tuple(moved))
            return None
        if isinstance(step, steps.LpNorm):
            return replace(step, axes=tuple(self._axis(a, rank) for a in step.axes))
        if isinstance(step, steps.Reduce) and step.keepdims:
            return replace(step, axes=tuple(self._axis(a, rank) for a in step.axes))
        if isinstance(step, steps.Pad) and len(step.padding) <= rank:
            pads = ((0, 0),) * (rank - len(step.padding)) + tuple(step.padding)
            return replace(step, padding=tuple(pads[i] for i in self._axes(rank)))
        if isinstance(step, steps.Slice):
            ranges = tuple(step.ranges) + ((None, None, 1),) * (rank - len(step.ranges))
            return replace(step, ranges=tuple(ranges[i] for i in self._axes(rank)))
        return None

    # -- statements ---------------------------------------------------------------------------------------------

    def _statement(
        self, step: Any, reads: Sequence[_Tensor], writes: Sequence[_Tensor], path: str, *, image: bool
    ) -> None:
        """Write the code of a step; several codes run one after the other."""
        codes = self._codes(step, reads, image=image)
        names = tuple(t.name for t in reads)
        for i, code in enumerate(codes):
            out = tuple(t.name for t in writes) if i == len(codes) - 1 else (writes[0].name,)
            layer, first = "", True
            if code.layer:
                number = i if len(codes) > 1 else None
                layer, first = self._layer(path or type(step).__name__.lower(), number, code, shared=_has_weights(step))
            self.lines.append(Line(code, layer, names, out, first))
            for remark in code.remarks:
                self._remark(remark)
            names = out

    def _codes(self, step: Any, reads: Sequence[_Tensor], *, image: bool) -> Sequence[Code]:
        """Return the code of a step; of a convolution that the target lacks, as a pad and a convolution."""
        batches = [t.shape for t in reads if t.batched] if self.target.samples else []
        shapes = tuple(t.shape[1:] if batches and t.batched else t.shape for t in reads)
        own = of_sample(step, max(batches, key=len)) if batches else step
        try:
            found = self.target.write(own, Reads(shapes, image, self.target.layout == "NCHW", bool(batches)))
        except UnsupportedError:
            parts = _apart(step, reads[0].shape, self.target.layout)
            if parts is None:
                raise NotKnown(f"{self.target.title} has no layer for {step!r}") from None
            codes: list[Code] = []
            read = reads[0]
            for part, layout in parts:
                codes += self._codes(part, [read], image=image)
                (shape,) = outputs(Placed(part, layout), [read.shape])
                read = replace(read, shape=tuple(shape))
            return codes
        return [found] if isinstance(found, Code) else found

    def _layer(self, path: str, number: int | None, code: Code, *, shared: bool) -> tuple[str, bool]:
        """Return the attribute of a layer, and whether it is new; one without weights is made anew for each use."""
        key = f"{path}#{number}:{code.layer}" if shared else f"{len(self.lines)}"
        if key in self.layers:
            return self.layers[key], False
        base = re.sub(r"\W+", "_", path).strip("_").lower() or "layer"
        base = f"layer{base}" if base[0].isdigit() else f"{base}_" if keyword.iskeyword(base) else base
        taken = set(self.layers.values())
        name = next(n for n in (base, *(f"{base}_{i}" for i in range(1, 10_000))) if n not in taken)
        self.layers[key] = name
        return name, True

    def _name(self, free: Sequence[str] = (), taken: Collection[str] = ()) -> str:
        """Return a variable that no tensor in use has: that of what was read last, if it is free."""
        used = {t.name for n, t in self.tensors.items() if self.uses[n] > 0}.union(taken)
        names = (*free, "x", *(f"x{i}" for i in range(1, 10_000)))
        return next(name for name in names if name not in used)

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)


def _has_weights(step: ConvSpec | Step) -> bool:
    """Return whether a step has weights."""
    return isinstance(step, ConvSpec) or bool(step.arrays)


def _apart(step: Any, shape: Shape, layout: str) -> list[tuple[ConvSpec | Step, str]] | None:
    """Return a convolution as a pad and a convolution, or a transposed one and a crop; None where there is nothing."""
    if not isinstance(step, ConvSpec):
        return None
    spec = step.explicit(shape, layout)
    given = spec.padding if not isinstance(spec.padding, str) else ()
    pads = [(lo, hi) for lo, hi in given]
    if spec.transposed:
        pads = [(-lo, extra - hi) for (lo, hi), extra in zip(pads, spec.output_padding, strict=True)]
    if not any(map(any, pads)) or (spec.transposed and max(map(max, pads)) > 0):
        return None
    none = (0,) * spec.ndim
    bare = replace(spec, padding=((0, 0),) * spec.ndim, output_padding=none, padding_mode="zeros")
    pad = steps.Pad([*pads, (0, 0)] if layout == "NHWC" else pads, _MODES.get(spec.padding_mode, "constant"))
    return [(bare, layout), (pad, "")] if spec.transposed else [(pad, ""), (bare, layout)]


_MODES = {"reflect": "reflect", "replicate": "replicate", "circular": "circular"}
_POINTWISE = (
    steps.Activation, steps.Dropout, steps.Identity, steps.Elementwise,
)  # fmt: skip
_NORMS = (steps.BatchNorm, steps.GroupNorm, steps.InstanceNorm)


def _beyond_steps(row: Row) -> str:
    """Return why the steps of a row do not say all that it does; empty where they do."""
    if not row.steps:
        return row.problem
    first, last = row.steps[0], row.steps[-1]
    count = 1 if isinstance(first, ConvSpec) else first.num_inputs
    if any(isinstance(step, steps.Other) for step in row.steps):
        return f"{row.kind} is not in the vocabulary of steps"
    if count is not None and len(row.reads) > count:
        return "its weights are tensors of the network"
    return "it has several results" if len(row.writes) > 1 and not isinstance(last, steps.Split) else ""
