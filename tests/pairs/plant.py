"""Mistakes that people make in ports, planted into one side of a pair of networks, and what is expected to be said."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tests.pairs.network import LAYERS, Net, Op, Weights, channels_last

Edit = Callable[[Weights, Weights], None]  # of the target's weights; also given: those that nobody permuted


class Planted(NamedTuple):
    """Networks of both sides; ``places``: of the first divergence; ``edit``: of the target's weights."""

    source: Net
    target: Net
    places: frozenset[str]
    edit: Edit | None = None


@dataclass(frozen=True)
class Mistake:
    """A kind of mistake; ``names``: how what is said begins, in regular expressions."""

    id: str
    names: str
    plant: Callable[[Net, random.Random], Iterator[Planted]]


MISTAKES: dict[str, Mistake] = {}


def mistake(id_: str, names: str = "") -> Callable[[Callable[[Net, Op], Iterator[Planted]]], Mistake]:
    """Register a function that yields the mistake's ways to be made at one operation."""

    def register(plant: Callable[[Net, Op], Iterator[Planted]]) -> Mistake:
        def at_any(net: Net, rng: random.Random) -> Iterator[Planted]:
            for op in rng.sample(net.ops, len(net.ops)):
                yield from plant(net, op)

        MISTAKES[id_] = Mistake(id_, names or id_, at_any)
        return MISTAKES[id_]

    return register


def _step(net: Net, op: Op, target: Net, source: Net | None = None) -> Planted:
    """Return a mistake in a step between layers."""
    return Planted(source or net, target, frozenset((source or net).places(op.name)))


def _layer(net: Net, op: Op, target: Net | None = None, edit: Edit | None = None, source: Net | None = None) -> Planted:
    """Return a mistake in a layer."""
    return Planted(source or net, target or net, frozenset({op.of or op.name}), edit)


# -- steps: one setting ------------------------------------------------------------------------------------------------


def _settings(id_: str, kind: str, right: Mapping[str, object], wrong: Mapping[str, object], names: str = "") -> None:
    """Register a mistake in a step's settings; the source gets the right ones where it has others of them."""

    def plant(net: Net, op: Op) -> Iterator[Planted]:
        if op.kind == kind and ("function" not in right or op["function"] == right["function"]):
            source = net.change(op.name, **right)
            yield _step(net, op, source.change(op.name, **wrong), source)

    mistake(id_, names)(plant)


def _function(right: str, wrong: str, id_: str = "", **settings: float) -> None:
    named = id_ or f"{right}-as-{wrong}".replace("_", "-")
    _settings(named, "act", {"function": right}, {"function": wrong, **settings})


_function("relu", "relu6")
_function("relu6", "relu")
_function("relu", "gelu")
_function("relu", "leaky_relu")
_function("silu", "hard_swish")
_function("hard_swish", "silu")
_function("sigmoid", "hard_sigmoid")
_function("gelu", "gelu_tanh", "gelu-approximation")
_function("leaky_relu", "leaky_relu", "leaky-relu-slope", slope=0.3)
_function("elu", "relu", "elu-as-relu")


@mistake("activation-missing", r"[a-z0-9-]+-missing|clip-missing")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "act":
        yield _step(net, op, net.remove(op.name))


@mistake("activation-extra", "relu-extra|activation-fused")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind in ("conv", "batch_norm") and not any(r.kind in ("act", "prelu", *LAYERS) for r in net.readers(op.name)):
        yield _step(net, op, net.insert(op.name, Op("extra", "act", (), {"function": "relu"})))


@mistake("activation-before-the-norm", r"relu-extra|relu-missing|relu-order|activation-fused")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "act" and op["function"] == "relu" and net_kind(net, op.reads[0]) == "batch_norm":
        norm = net[op.reads[0]]
        moved = net.remove(op.name).insert(norm.reads[0], Op("early", "act", (), op.settings))
        yield Planted(net, moved, frozenset({norm.name}))


def net_kind(net: Net, name: str) -> str:
    """Return the kind of the operation that gives a value; empty for the input."""
    return next((op.kind for op in net.ops if op.name == name), "")


_settings("max-pool-padding", "max_pool", {"kernel": (3, 3), "stride": 2, "pads": ((1, 1), (1, 1)), "ceil": False},
          {"same": True})  # fmt: skip
_settings("max-pool-stride", "max_pool", {"kernel": (2, 2), "stride": 2, "pads": ((0, 0), (0, 0)), "ceil": False},
          {"stride": 1})  # fmt: skip
_settings("max-pool-kernel-size", "max_pool", {"kernel": (3, 3), "stride": 1, "pads": ((1, 1), (1, 1)), "ceil": False},
          {"kernel": (5, 5), "pads": ((2, 2), (2, 2))})  # fmt: skip
_settings("average-pool-count-include-pad", "avg_pool",
          {"kernel": (3, 3), "stride": 1, "pads": ((1, 1), (1, 1)), "counted": True}, {"counted": False},
          "average-pool-(count-include-pad|padding)|pad-missing")  # fmt: skip
_settings("global-average-as-max", "global_pool", {"max": False}, {"max": True},
          "global-pool-reduction|reduce-reduction|(reduce|global-pool)-as-(reduce|global-pool)")  # fmt: skip
_settings("resize-mode", "resize", {"mode": "bilinear"}, {"mode": "nearest"})
_settings("resize-coordinates", "resize", {"mode": "bilinear", "align": True}, {"align": False})
_settings("pixel-shuffle-order", "pixel_shuffle", {"order": "CRD"}, {"order": "DCR"})
_settings("channel-shuffle-order", "channel_shuffle", {"groups": 2}, {"groups": 4})
_settings("dropout-active", "dropout", {}, {"training": True})
_settings("prelu-shared", "prelu", {"shared": False}, {"shared": True}, "prelu-shape|weights-differ")


@mistake("max-pool-ceil-mode", "max-pool-(ceil-mode|padding)")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "max_pool" and any(n % 2 for n in net.shapes()[op.reads[0]][1:]):
        source = net.change(op.name, kernel=(2, 2), stride=2, pads=((0, 0), (0, 0)), ceil=True)
        yield _step(net, op, source.change(op.name, ceil=False), source)


@mistake("max-pool-as-average-pool")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "max_pool" and not op.get("ceil") and not any(map(any, op["pads"])):
        yield _step(net, op, net.change(op.name, kind="avg_pool"))


@mistake("channel-shuffle-missing", "channel-shuffle-order")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "channel_shuffle":
        yield _step(net, op, net.remove(op.name))


@mistake("concat-order")
def _(net: Net, op: Op) -> Iterator[Planted]:
    shapes = net.shapes()
    if op.kind == "concat" and len({shapes[read] for read in op.reads}) == 1:
        yield _step(net, op, net.change(op.name, reads=op.reads[::-1]))


@mistake("skip-missing", "skip-missing")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "add":
        keep = 1 if net_kind(net, op.reads[1]) == "scale" else 0
        if net_kind(net, op.reads[1 - keep]) not in LAYERS:
            yield _step(net, op, net.remove(op.name, keep))


@mistake("add-as-multiply", "add-as-multiply")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "add":
        yield _step(net, op, net.change(op.name, kind="multiply"))


@mistake("gate-missing", "multiply-missing|skip-missing")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "multiply":
        yield _step(net, op, net.change(op.name, kind="add"))


MISTAKES["multiply-as-add"] = replace(MISTAKES.pop("gate-missing"), id="multiply-as-add", names="multiply-as-add")


@mistake("layer-scale-missing", "multiply-missing")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "scale":
        yield _step(net, op, net.remove(op.name))


@mistake("softmax-missing")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "softmax":
        yield _step(net, op, net.remove(op.name))


@mistake("softmax-extra")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "linear" and net.results == (op.name,):
        yield _step(net, op, net.insert(op.name, Op("extra", "softmax", ())))


@mistake("layer-scale-weights", "weights-differ")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind in ("scale", "prelu"):
        name = "gamma" if op.kind == "scale" else "slope"

        def edit(own: Weights, _: Weights) -> None:
            own[op.name][name] = np.full_like(own[op.name][name], 0.9)

        yield _step(net, op, net)._replace(edit=edit)


@mistake("latent-order", "unflatten-order|rows|axes-order|flatten-order|kernel-reshaped|.*order")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "unflatten":

        def edit(own: Weights, plain: Weights) -> None:
            own[op.reads[0]] = dict(plain[op.reads[0]])

        planted = _step(net, op, net)
        yield planted._replace(edit=edit, places=planted.places | {op.reads[0]})


@mistake("flatten-order")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "flatten" and net.shapes()[op.reads[0]][0] > 1:

        def edit(own: Weights, plain: Weights) -> None:
            for name in net.places(op.name):
                own[name] = dict(plain[name])

        yield _step(net, op, net)._replace(edit=edit)


# -- layers ------------------------------------------------------------------------------------------------------------


@mistake("epsilon", "epsilon 1e-0[56] against 0.001")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if "epsilon" in op.settings:
        yield _layer(net, op, net.change(op.name, epsilon=1e-3))


@mistake("norm-left-out", "model b has no|model a has a")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind in LAYERS[3:] and op.get("affine", True):
        planted = _layer(net, op, net.remove(op.name))
        yield planted


@mistake("norm-in-training", ".*batch|.*training")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "batch_norm":
        yield _layer(net, op, net.change(op.name, training=True))


@mistake("group-norm-groups", "groups 2 against")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "group_norm":
        yield _layer(net, op, net.change(op.name, groups=1))


@mistake("group-norm-as-instance-norm", "group norm.* against instance norm|groups 2 against")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "group_norm":
        yield _layer(net, op, net.change(op.name, kind="instance_norm", affine=True))


def _stride(net: Net, op: Op, stride: int, wrong: int) -> Iterator[Planted]:
    if op.kind == "conv" and op["stride"] == stride and not op.of and not any(o.of == op.name for o in net.ops):
        yield _layer(net, op, net.change(op.name, stride=wrong))


mistake("stride-ignored", "stride-ignored|stride")(lambda net, op: _stride(net, op, 2, 1))
mistake("stride-added", "stride")(lambda net, op: _stride(net, op, 1, 2))


@mistake("dilation-ignored", "dilation-ignored|dilation")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "conv" and op["dilation"] > 1:
        d = op["dilation"]
        pads = tuple((lo // d, hi // d) for lo, hi in op["pads"])
        yield _layer(net, op, net.change(op.name, dilation=1, pads=pads))


@mistake("symmetric-as-same", "symmetric-as-same")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "conv" and op["stride"] == 2 and op["kernel"][0] > 1 and op["groups"] == 1:
        yield _layer(net, op, net.change(op.name, same=True))


@mistake("pads-mirrored", "odd-cell-on-the-wrong-side|pads-mirrored|pads-in-another-order|same-as-symmetric|.*pads")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "conv" and any(lo != hi for lo, hi in op["pads"]):
        yield _layer(net, op, net.change(op.name, pads=tuple(pair[::-1] for pair in op["pads"])))


@mistake("padding-dropped", "padding-dropped|.*pads")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "conv" and any(map(any, op["pads"])) and not op.of and not any(o.of == op.name for o in net.ops):
        yield _layer(net, op, net.change(op.name, pads=((0, 0), (0, 0))))


@mistake("padding-mode-lost", "padding-mode-lost|padding-mode-replaced|padding mode")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "conv" and op["pads"] == ((1, 1), (1, 1)) and not op.of and not any(o.of == op.name for o in net.ops):
        yield _layer(net, op, net, source=net.change(op.name, mode="reflect"))


@mistake(
    "transposed-crop-on-the-wrong-side",
    "transposed-crop-on-the-wrong-side|transposed-rows-shifted|output-padding-on-the-wrong-side|window-shifted|.*pads",
)
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind == "deconv" and op["output_padding"] and op["pads"][0] == (1, 1):
        yield _layer(net, op, net.change(op.name, pads=((0, 2), (0, 2))))


def _edits(
    id_: str, names: str, suits: Callable[[Op], bool], change: Callable[[dict[str, np.ndarray], Op], None]
) -> None:
    """Register a mistake in a layer's weights."""

    def plant(net: Net, op: Op) -> Iterator[Planted]:
        if not op.of and suits(op):

            def edit(own: Weights, _: Weights) -> None:
                change(own[op.name], op)

            yield _layer(net, op, edit=edit)

    mistake(id_, names)(plant)


def _set(name: str, new: Callable[[np.ndarray, Op], np.ndarray]) -> Callable[[dict[str, np.ndarray], Op], None]:
    def change(own: dict[str, np.ndarray], op: Op) -> None:
        own[name] = np.ascontiguousarray(new(own[name], op))

    return change


def _is_conv(op: Op) -> bool:
    return op.kind in ("conv", "deconv") and op["kernel"][0] == op["kernel"][1] > 1


_edits("kernel-flipped", "kernel-flipped", _is_conv, _set("kernel", lambda k, _: k[..., ::-1, ::-1]))
_edits("kernel-flipped-along-one-axis", "kernel-flipped-along-one-axis", _is_conv,
       _set("kernel", lambda k, _: k[..., ::-1, :]))  # fmt: skip
_edits("kernel-height-and-width-exchanged", "kernel-height-and-width-exchanged", _is_conv,
       _set("kernel", lambda k, _: k.swapaxes(-1, -2)))  # fmt: skip
_edits("groups-permuted", "groups-permuted|channels-shuffled|depthwise-multiplier-order|.*order",
       lambda op: op.kind == "conv" and op["groups"] == 2,
       _set("kernel", lambda k, _: np.concatenate(np.split(k, 2)[::-1])))  # fmt: skip
_edits("depthwise-multiplier-order", "depthwise-multiplier-order",
       lambda op: op.kind == "conv" and op["groups"] > 2 and op["out"] > op["groups"],
       _set("kernel", lambda k, op: np.concatenate([k[i :: op["out"] // op["groups"]]
                                                    for i in range(op["out"] // op["groups"])])))  # fmt: skip
_edits("bias-dropped", "bias-dropped", lambda op: op.kind == "conv" and op["bias"],
       _set("bias", lambda b, _: np.zeros_like(b)))  # fmt: skip
_edits("linear-bias-dropped", "the bias differs", lambda op: op.kind == "linear",
       _set("bias", lambda b, _: np.zeros_like(b)))  # fmt: skip
_edits("bias-in-another-order", "bias-in-another-order", lambda op: op.kind == "conv" and op["bias"],
       _set("bias", lambda b, _: b[::-1]))  # fmt: skip


def _swap_statistics(own: dict[str, np.ndarray], _: Op) -> None:
    own["mean"], own["variance"] = own["variance"], np.abs(own["mean"]) + np.float32(0.1)


_edits("statistics-left-at-their-start", "mean, variance differ", lambda op: op.kind == "batch_norm",
       lambda own, _: own.update(mean=np.zeros_like(own["mean"]), variance=np.ones_like(own["variance"])))  # fmt: skip
_edits("statistics-exchanged", "mean, variance differ", lambda op: op.kind == "batch_norm", _swap_statistics)
_edits("gain-left-at-one", "gain differs", lambda op: op.kind in LAYERS[3:] and op.get("affine", True),
       _set("gain", lambda g, _: np.ones_like(g)))  # fmt: skip


@mistake("weights-exchanged", ".*weights|.*kernel|.*another layer|.*exchanged|convolution-scaled|unexplained|.*differs")
def _(net: Net, op: Op) -> Iterator[Planted]:
    if op.kind != "conv" or op.of:
        return
    shapes = net.shapes()
    for other in net.ops[net.ops.index(op) + 1 :]:
        same = other.kind == "conv" and not other.of and shapes[other.reads[0]][0] == shapes[op.reads[0]][0]
        if same and all(other[key] == op[key] for key in ("out", "kernel", "groups", "bias")):
            a, b = op.name, other.name

            def edit(own: Weights, _: Weights, a: str = a, b: str = b) -> None:
                own[a], own[b] = own[b], own[a]

            yield Planted(net, net, frozenset({a, b}), edit)


def targets_weights(planted: Planted, right: Weights, *, last: bool) -> Weights:
    """Return the target's weights with the mistake; ``last``: for a channels-last model."""
    known = {name: own for name, own in right.items() if any(op.name == name for op in planted.target.ops)}
    found = channels_last(planted.target, known) if last else {name: dict(own) for name, own in known.items()}
    if planted.edit is not None:
        planted.edit(found, known)
    for op in planted.target.ops:
        if op.kind == "prelu" and op["shared"] and op.name in found:
            found[op.name]["slope"] = found[op.name]["slope"][:1]
    return found
