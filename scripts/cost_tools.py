"""Count multiply-accumulate operations with six public tools and with convspec, and write a page of both.

    python scripts/cost_tools.py --folder build/cost-tools

It needs convspec and PyTorch. The tools are installed into the folder (``pip install --no-deps --target``), so the
environment stays as it is. Networks are counted in a process each: some tools leave PyTorch patched if a model fails.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import site_networks
from cost_tool_counts import PACKAGES, TOOLS, Found, Job, Shape, measured

import convspec
from convspec import Network, corpora, reference
from convspec.corpora.features import traits
from convspec.layers import summarize
from convspec.spec import ConvParams, ConvSpec, product

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reports/cost-tools.md"

BASE = ConvSpec(8, 16, 3, padding=1, bias=False)
UP = replace(BASE, kernel_size=4, stride=2, transposed=True)
LAYERS: dict[str, tuple[ConvSpec, Shape]] = {  # one feature at a time
    "regular": (BASE, (2, 8, 12, 14)),
    "no padding": (replace(BASE, padding=0), (2, 8, 12, 14)),
    "bias": (replace(BASE, bias=True), (2, 8, 12, 14)),
    "stride": (replace(BASE, stride=2), (2, 8, 12, 14)),
    "dilation": (replace(BASE, dilation=2, padding=2), (2, 8, 12, 14)),
    "groups": (replace(BASE, groups=4), (2, 8, 12, 14)),
    "depthwise": (replace(BASE, groups=8), (2, 8, 12, 14)),
    "unequal pads": (replace(BASE, padding=((0, 1), (2, 1))), (2, 8, 12, 14)),
    "padding `same`": (replace(BASE, kernel_size=4, padding="same"), (2, 8, 12, 14)),
    "padding mode reflect": (replace(BASE, padding_mode="reflect"), (2, 8, 12, 14)),
    "padding mode circular": (replace(BASE, padding_mode="circular"), (2, 8, 12, 14)),
    "1-D": (ConvSpec(8, 16, (3,), padding=1, bias=False), (2, 8, 12)),
    "3-D": (ConvSpec(8, 16, (3, 3, 3), padding=1, bias=False), (2, 8, 6, 7, 5)),
    "transposed": (UP, (2, 8, 12, 14)),
    "transposed, bias": (replace(UP, bias=True), (2, 8, 12, 14)),
    "transposed, output padding": (replace(UP, kernel_size=3, output_padding=1), (2, 8, 12, 14)),
    "transposed, unequal crops": (replace(UP, padding=((0, 1), (2, 1))), (2, 8, 12, 14)),
    "transposed, groups": (replace(UP, groups=4), (2, 8, 12, 14)),
    "transposed, depthwise": (replace(UP, groups=8), (2, 8, 12, 14)),
    "transposed, 1-D": (ConvSpec(8, 16, (4,), stride=2, padding=1, bias=False, transposed=True), (2, 8, 12)),
    "transposed, 3-D": (ConvSpec(8, 16, (4, 4, 4), stride=2, padding=1, bias=False, transposed=True), (2, 8, 6, 7, 5)),
}  # fmt: skip
CLASS = "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        {}\n\n    def forward(self, x):\n        return {}\n"  # noqa: E501 – one text
CONV = "nn.Conv2d(8, 8, 3, padding=1, bias=False)"
QUERY = "self.query = nn.Linear(8, 8, bias=False)"
MAPS, WORDS = (2, 8, 16, 16), (2, 10, 8)
WAYS: dict[str, tuple[str, Shape, int]] = {  # text, input, products by definition
    "`F.conv2d` in `forward`": (
        CLASS.format("self.weight = nn.Parameter(torch.zeros(8, 8, 3, 3))", "F.conv2d(x, self.weight, padding=1)"),
        MAPS, 2 * 256 * 576),
    "subclass `Conv2dSame(nn.Conv2d)`": (
        f"class Conv2dSame(nn.Conv2d):\n    pass\n\n\nnet = nn.Sequential({CONV.replace('nn.Conv2d', 'Conv2dSame')})",
        MAPS, 2 * 256 * 576),
    "subclass `Stem(nn.Conv2d)`": (
        f"class Stem(nn.Conv2d):\n    pass\n\n\nnet = nn.Sequential({CONV.replace('nn.Conv2d', 'Stem')})",
        MAPS, 2 * 256 * 576),
    "`nn.LazyConv2d`": ("net = nn.Sequential(nn.LazyConv2d(8, 3, padding=1, bias=False))", MAPS, 2 * 256 * 576),
    "`weight_norm(nn.Conv2d)`": (
        f"net = nn.Sequential(nn.utils.parametrizations.weight_norm({CONV}))", MAPS, 2 * 256 * 576),
    "a layer that runs twice": (CLASS.format(f"self.conv = {CONV}", "self.conv(self.conv(x))"), MAPS, 4 * 256 * 576),
    "a layer that does not run": (
        CLASS.format(f"self.conv, self.other = {CONV}, {CONV}", "self.conv(x)"), MAPS, 2 * 256 * 576),
    "`nn.Linear` on (2, 8)": ("net = nn.Sequential(nn.Linear(8, 8, bias=False))", (2, 8), 2 * 64),
    "`nn.Linear` on (2, 10, 8)": ("net = nn.Sequential(nn.Linear(8, 8, bias=False))", WORDS, 20 * 64),
    "`nn.Linear`, then `@`": (CLASS.format(QUERY, "self.query(x) @ x.transpose(1, 2)"), WORDS, 20 * 64 + 2 * 800),
    "`nn.Linear`, then `einsum`": (
        CLASS.format(QUERY, 'torch.einsum("nic,njc->nij", self.query(x), x)'), WORDS, 20 * 64 + 2 * 800),
    "`nn.Linear`, then attention": (
        CLASS.format(QUERY, "F.scaled_dot_product_attention(self.query(x), x, x)"), WORDS, 20 * 64 + 4 * 800),
    "`nn.MultiheadAttention`": (
        CLASS.format("self.mix = nn.MultiheadAttention(8, 2, bias=False, batch_first=True)", "self.mix(x, x, x)[0]"),
        WORDS, 4 * 20 * 64 + 4 * 800),
}  # fmt: skip
OTHERS: dict[str, str] = {  # layers without products, each on MAPS
    "`nn.ReLU`": "nn.ReLU()", "`F.relu`": "F.relu(x)", "`nn.GELU`": "nn.GELU()",
    "`nn.BatchNorm2d`": "nn.BatchNorm2d(8)", "`nn.LayerNorm`": "nn.LayerNorm(16)",
    "`nn.GroupNorm`": "nn.GroupNorm(2, 8)",
    "`nn.MaxPool2d`": "nn.MaxPool2d(2)", "`nn.AvgPool2d`": "nn.AvgPool2d(2)",
    "`nn.AdaptiveAvgPool2d`": "nn.AdaptiveAvgPool2d(1)",
    "`nn.Softmax`": "nn.Softmax(1)", "`nn.Upsample`, bilinear": 'nn.Upsample(scale_factor=2, mode="bilinear")',
}  # fmt: skip


# -- convspec, and the definition -----------------------------------------------------------------------------------


def defined(spec: ConvSpec, shape: Shape) -> tuple[int, int]:
    """Count a layer's products, and those on padding or cropped away, with ones in the oracle.

    All products: the sum of the output if the padding is ones, too, and nothing is cropped.
    """
    spec = replace(spec.explicit(shape), bias=False, padding_mode="zeros")
    bare = replace(spec, padding=0, output_padding=0)
    ones = ConvParams(np.ones(spec.kernel_shape))
    x = np.ones(shape)
    pads = [(0, 0), (0, 0), *([] if spec.transposed else spec.padding)]
    every = reference.conv(bare, ones, x if spec.transposed else np.pad(x, pads, constant_values=1)).sum()
    return int(every), int(every - reference.conv(spec, ones, x).sum())


def corpus() -> Iterator[tuple[ConvSpec, Shape]]:
    """Yield the different layers of the corpus ``features`` that run, without those of an empty input."""
    seen = set()
    for case in corpora.load("features"):
        with contextlib.suppress(convspec.ShapeError):
            case.spec.output_shape(case.input_shape)
            if case.spec not in seen and all(case.input_shape):
                seen.add(case.spec)
                yield case.spec, case.input_shape


def cause(spec: ConvSpec, shape: Shape, found: Found) -> str:
    """Return the rule that gives a tool's count, if it is not the definition's: the one with the fewest faults.

    Unequal crops come after PyTorch's layer, so its output is the uncropped one.
    """
    layer = spec.explicit(shape)
    unequal = spec.transposed and any(low != high for low, high in layer.padding)
    output = (replace(layer, padding=0) if unequal else layer).output_shape(shape)
    twice = product(spec.kernel_size) * spec.in_channels * (spec.out_channels // spec.groups // spec.groups)
    own = shape[0] * product(shape[2:] if spec.transposed else output[2:])
    places = {"": own, "output pixels instead of input pixels": shape[0] * product(output[2:])}
    weights = {"": product(spec.kernel_shape), "divided by the groups twice": twice}
    biases = {"": 0, "bias counted": spec.bias * product(output)}
    rules = [
        ([word for word in (where, size, bias) if word], places[where] * weights[size] + biases[bias])
        for where in places for size in weights for bias in biases
    ]  # fmt: skip
    fitting = sorted((words for words, count in rules if count == found), key=len)
    return " and ".join(fitting[0]) if fitting else f"**unknown**: {found}"


# -- the page -------------------------------------------------------------------------------------------------------

UNEQUAL = ("asymmetric", "causal", "same", "same_lower")
DEPTHWISE = ("depthwise", "depthwise with multiplier")
CLASSES: dict[str, dict[str, tuple[str, ...]]] = {  # the values of features, as in convspec.corpora.features
    "all": {},
    "regular, no bias": {"direction": ("regular",), "bias": ("no bias",)},
    "regular, bias": {"direction": ("regular",), "bias": ("bias",)},
    "transposed, no bias": {"direction": ("transposed",), "bias": ("no bias",)},
    "transposed, bias": {"direction": ("transposed",), "bias": ("bias",)},
    **{f"{rank}-D": {"rank": (rank,)} for rank in "123"},
    "stride": {"stride": ("equal", "per axis")},
    "dilation": {"dilation": ("equal", "per axis")},
    "regular, groups": {"direction": ("regular",), "groups": ("some",)},
    "regular, depthwise": {"direction": ("regular",), "groups": DEPTHWISE},
    "transposed, groups": {"direction": ("transposed",), "groups": ("some",)},
    "transposed, depthwise": {"direction": ("transposed",), "groups": DEPTHWISE},
    "transposed, output padding": {"output_padding": ("some", "beyond stride")},
    "unequal pads": {"padding": UNEQUAL},
    "reflect, replicate, circular": {"mode": ("reflect", "replicate", "circular")},
    "more than one sample": {"batch": ("2", "more")},
}
HEAD = """# Who counts multiply-accumulate operations wrongly?

Five public packages, PyTorch's own counter and `convspec` count the operations of the same layers and networks in
PyTorch. `{command}` installs the packages, counts, and writes this page.

{versions}; {date}.

## Which tool should I use?

* **`torch.utils.flop_counter.FlopCounterMode`** counts what the definition says everywhere on this page. It comes with
  PyTorch and needs a run of the model. Divide its number by 2: a multiplication and an addition are two flops.
* **`convspec show net.py`** counts the same from the text, without PyTorch and without a run, attention and
  `einsum` too. It leaves out layers that do not run, and their parameters.
* **fvcore** is right for every layer; its flops are multiply-accumulate operations. It adds norms and some pools to
  them. It leaves out layers whose output is not used, such as one of WaveNet, and counts operators that it does not
  know as 0, such as fused attention, with a warning.
* **ptflops** counts a bias as one more operation per output element. With its default backend, functions such as
  `F.conv2d`, `@` and subclasses of layers count 0, and most activations and pools count twice, as a layer and as a
  function; `backend="aten"` has neither fault. Its number is that of one sample.
* **thop** counts a transposed convolution by its output pixels: {thop_dcgan} times the operations of DCGAN's generator,
  {thop_unet} times those of U-Net. Functions, `@` and subclasses of layers count 0. It adds norms and some pools, and
  leaves out parameters that belong to no layer, such as ConvNeXt's scales.
* **torchinfo** has the same fault in transposed convolutions, and counts a bias. It counts a linear layer once per
  sample, however many positions it has: ConvNeXt-T gets {info_convnext} of its operations. A parameter of the network
  itself, or of a class without `Conv` in its name, is counted as a linear layer's; other functions count 0.
* **calflops** (its MACs) divides a transposed convolution by the groups twice: a depthwise one often counts 0. `@`,
  `einsum` and fused attention count 0.

## What is counted?

An operation is a product of the definition and the addition that belongs to it. `spec.macs(input_shape)` counts what a
dense loop over the kernel does:

* a regular layer: output pixels × weights, with the products of padding;
* a transposed layer: input pixels × weights, with the products that are cropped away;
* a linear layer or a matrix product: every product;
* all of them for the whole batch; a bias, a norm or an activation is no operation.

A program may do less: it can skip padding. Every tool on this page counts padding.

The column *products* is measured: it is the sum of our float64 oracle's output where input, padding and kernel are
ones and nothing is cropped. *On padding* is the part of them that multiplies padding, or that is cropped away.

Flops of FlopCounterMode are halved, and ptflops's number is multiplied by the batch. `=` is the definition's number;
other numbers are bold, with their factor to four digits.

"""
LAYERS_TEXT = """The first layer is `{base}`
on 2 × 8 × 12 × 14. Other regular layers differ from it in the feature named. The first transposed layer is
`{up}`.

"""
CORPUS_TEXT = """Layers of the corpus `features`, which has every pair of features, as
[`convspec check`](../how-to/check.md) builds them in PyTorch. A cell is the number of layers whose count is the
definition's, bold where it is not all.

"""
CAUSES_TEXT = """Every wrong count of the corpus is exactly the number of a rule with one or two faults. PyTorch
crops unequal amounts after the layer, so output pixels and biases are then those of the uncropped output.

"""
WAYS_TEXT = """Layers of 8 channels on 2 × 8 × 16 × 16, or on 2 × 10 × 8. The products are counted by hand.

"""
OTHERS_TEXT = """The layer comes after a convolution of 8 channels with 16 × 16 pixels. A cell is what the tool adds
for the layer, per element of the layer's input. The definition adds 0.

"""
NETWORKS_TEXT = """[The networks of this site](../reference/networks/index.md), run in PyTorch in evaluation mode.

"""
PARAMETERS_TEXT = """Networks where a count of parameters differs. FlopCounterMode counts none; its column is
PyTorch's own number.

"""


def cell(found: Found, truth: int) -> str:
    """Return a count as a cell: ``=`` where it is the truth, else with its factor."""
    if isinstance(found, str) or found == truth:
        return found if isinstance(found, str) else "="
    factor = f"{found / truth:.4g}"
    return f"**{found:,}**" if factor in ("0", "1") else f"**{found:,}** (× {factor})"


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]], words: int = 1) -> str:
    """Return a Markdown table; the columns after the first ``words`` are aligned to the right."""
    lines = [head, tuple("---" if i < words else "--:" for i in range(len(head))), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines) + "\n"


def ours(source: ConvSpec | str, shape: Shape) -> tuple[int | None, int | None]:
    """Return the operations and the parameters that convspec counts; None where it says that it does not know."""
    if isinstance(source, ConvSpec):
        return source.macs(shape), source.num_parameters
    totals = summarize(Network.parse(source), shape)["totals"]
    return totals["macs"], totals["parameters"]


def other(layer: str) -> str:
    """Return a network of a convolution and a layer without products."""
    if layer.startswith("F."):
        return CLASS.format(f"self.conv = {CONV}", layer.replace("(x)", "(self.conv(x))"))
    return CLASS.format(f"self.conv, self.layer = {CONV}, {layer}", "self.layer(self.conv(x))")


def networks() -> dict[str, tuple[str, Shape]]:
    """Return title, text and input of the site's networks."""
    return {entry["title"]: (site_networks.text_of(name), tuple(entry["input"]))
            for name, entry in site_networks.published().items()}  # fmt: skip


def layer_rows() -> list[tuple[str, str, str]]:
    """Return name, our count, and products on padding, of the layers with one feature each."""
    return [(name, f"{spec.macs(shape):,}", f"{defined(spec, shape)[1]:,}") for name, (spec, shape) in LAYERS.items()]


def network_rows() -> list[tuple[str, str, str, str]]:
    """Return title, input, our operations and our parameters of the networks."""
    rows = []
    for title, (text, shape) in networks().items():
        macs, parameters = ours(text, shape)
        rows.append((title, "×".join(map(str, shape)), f"{macs:,}", f"{parameters:,}"))
    return rows


def way_rows() -> list[tuple[str, str, str]]:
    """Return name, the definition's and our count of layers that are written otherwise."""
    rows = []
    for name, (text, shape, truth) in WAYS.items():
        macs = ours(text, shape)[0]
        rows.append((name, f"{truth:,}", "not counted" if macs is None else cell(macs, truth)))
    return rows


Counts = dict[Job, tuple[Found, int]]


def members() -> dict[str, list[tuple[ConvSpec, Shape]]]:
    """Return the layers of the corpus that belong to each class."""
    found: dict[str, list[tuple[ConvSpec, Shape]]] = {name: [] for name in CLASSES}
    for spec, shape in corpus():
        values = traits(spec, shape)
        for name, rule in CLASSES.items():
            if all(values[feature] in those for feature, those in rule.items()):
                found[name].append((spec, shape))
    return found


def class_rows() -> list[tuple[str, int]]:
    """Return name and number of layers of each class."""
    return [(name, len(layers)) for name, layers in members().items()]


def corpus_tables(counts: Counts) -> str:
    """Return how many layers of each class a tool counts rightly, and why the others are wrong."""
    rows = []
    for name, layers in members().items():
        right = [sum(counts[tool, *layer][0] == ours(*layer)[0] for layer in layers) for tool in TOOLS]
        rows.append((name, len(layers), *(n if n == len(layers) else f"**{n}**" for n in right)))
    causes: dict[tuple[str, str], list[str]] = {}
    for spec, shape in corpus():
        for tool in TOOLS:
            found, truth = counts[tool, spec, shape][0], spec.macs(shape)
            if found != truth:
                example = f"`{spec}` on {'×'.join(map(str, shape))}: {cell(found, truth)}, not {truth:,}"
                causes.setdefault((tool, cause(spec, shape, found)), []).append(example)
    reasons = [(tool, why, len(found), min(found, key=len)) for (tool, why), found in sorted(causes.items())]
    return (
        table(("layers", "number", *TOOLS), rows)
        + CAUSES_TEXT
        + table(("tool", "why", "layers", "example"), reasons, 4)
    )


DCGAN = "DCGAN's generator"


def page(counts: Counts, command: str) -> str:
    """Return the report."""

    def cells(source: ConvSpec | str, shape: Shape, truth: int) -> list[str]:
        return [cell(counts[tool, source, shape][0], truth) for tool in TOOLS]

    def ratio(title: str, tool: str) -> float:
        text, shape = networks()[title]
        return float(counts[tool, text, shape][0]) / (ours(text, shape)[0] or 1)

    installed = {name: importlib.metadata.version(name).replace("-", ".post") for name in ("torch", *PACKAGES)}
    head = HEAD.format(
        command=command, date=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        versions=", ".join(f"{name} {version}" for name, version in installed.items()),
        thop_dcgan=f"{ratio(DCGAN, 'thop'):.1f}", thop_unet=f"{ratio('U-Net', 'thop'):.2f}",
        info_convnext=f"{ratio('ConvNeXt-T', 'torchinfo'):.0%}",
    )  # fmt: skip
    layers = [(*row, *cells(*LAYERS[row[0]], LAYERS[row[0]][0].macs(LAYERS[row[0]][1]))) for row in layer_rows()]
    ways = [(*row, *cells(*WAYS[row[0]])) for row in way_rows()]
    nets = [(*row, *cells(*networks()[row[0]], int(row[2].replace(",", "")))) for row in network_rows()]
    base = 2 * 256 * 576
    rest = []
    for name, layer in OTHERS.items():
        found = [counts[tool, other(layer), MAPS][0] for tool in TOOLS]
        rest.append((name, *(n if isinstance(n, str) else f"{(n - base) / product(MAPS):g}" for n in found)))
    parameters = []
    for title, net in networks().items():
        numbers = [ours(*net)[1] or 0, *(counts[tool, *net][1] for tool in TOOLS)]
        if len(set(numbers)) > 1:
            parameters.append((title, *(f"{number:,}" for number in numbers)))
    return "".join((
        head, "## One feature at a time\n\n", LAYERS_TEXT.format(base=BASE, up=UP),
        table(("layer", "products", "on padding", *TOOLS), layers),
        "## The corpus of features\n\n", CORPUS_TEXT, corpus_tables(counts),
        "## The same products, written otherwise\n\n", WAYS_TEXT, table(("text", "products", "convspec", *TOOLS), ways),
        "## Layers without products\n\n", OTHERS_TEXT, table(("layer", *TOOLS), rest),
        "## Networks\n\n", NETWORKS_TEXT,
        table(("network", "input", "convspec", "parameters", *TOOLS), nets, 2),
        PARAMETERS_TEXT, table(("network", "convspec", *TOOLS), parameters),
    )).rstrip("\n") + "\n"  # fmt: skip


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, required=True, help="where the tools are installed, if it does not exist"
    )
    folder = parser.parse_args().folder.resolve()
    sources: list[tuple[ConvSpec | str, Shape]] = [*LAYERS.values(), *corpus(), *(way[:2] for way in WAYS.values())]
    sources += [*networks().values(), *((other(layer), MAPS) for layer in OTHERS.values())]
    counts = measured([(tool, *source) for source in dict.fromkeys(sources) for tool in TOOLS], folder)
    PAGE.write_text(page(counts, "python scripts/cost_tools.py --folder build/cost-tools"), "utf-8")


if __name__ == "__main__":
    main()
