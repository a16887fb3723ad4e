"""How many channels published networks have, and what twice as many cost: the table on the page of ``out_channels``."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from operator import itemgetter

from convspec.corpora import architectures
from convspec.corpora.cases import Case
from convspec.spec import ConvSpec

_NETWORKS = {
    "VGG-16": (architectures.vgg16, lambda name: "conv" in name),
    "ResNet-50": (
        architectures.resnet50,
        lambda name: "shortcut" not in name and "reduce" not in name and "3x3" not in name,
    ),
    "MobileNetV2": (architectures.mobilenet_v2, lambda name: "expand" not in name and "depthwise" not in name),
}  # the second: the layers whose outputs are passed from block to block


def parts(table: Callable[..., str]) -> str:
    """Return the table."""
    rows = [_row(name, list(cases()), chosen) for name, (cases, chosen) in _NETWORKS.items()]
    twice = "all widths doubled"
    head = ("network", "size of the map: `out_channels`", "weights", twice, "10⁹ MACs", twice)
    return table(head, rows)


def _row(name: str, cases: list[Case], chosen: Callable[[str], bool]) -> tuple[object, ...]:
    outputs = [case.spec.output_shape(case.input_shape) for case in cases if chosen(case.name)]
    stages = [
        (size, dict.fromkeys(str(shape[1]) for shape in found)) for size, found in groupby(outputs, itemgetter(2))
    ]
    widths = " → ".join(f"{size}²: {', '.join(found)}" for size, found in stages)
    twice = [doubled(case) for case in cases]
    weights, weights_twice = (sum(case.spec.num_parameters for case in found) for found in (cases, twice))
    macs, macs_twice = (sum(case.spec.macs(case.input_shape) for case in found) for found in (cases, twice))
    return (
        name, widths, f"{weights / 1e6:.1f} M", f"× {weights_twice / weights:.2f}",
        f"{macs / 1e9:.2f}", f"× {macs_twice / macs:.2f}",
    )  # fmt: skip


def doubled(case: Case) -> Case:
    """Return a layer of the network with twice the channels everywhere but in the image, whose channels are three."""
    spec = case.spec
    ins = spec.in_channels if spec.in_channels == case.input_shape[1] == 3 else 2 * spec.in_channels
    groups = spec.groups if spec.groups == 1 else 2 * spec.groups
    fields = spec.to_dict() | {"in_channels": ins, "out_channels": 2 * spec.out_channels, "groups": groups}
    return Case(ConvSpec.from_dict(fields), (1, ins, *case.input_shape[2:]), name=case.name)
