"""Random networks of PyTorch as text, each with one planted mistake: the layer that fails is known.

``python -m tests.networks.broken COUNT`` prints those in which another layer is named or no mend works, and the counts.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import dataclass, field

from convspec import Network
from convspec.layers import NetworkError, find_mends

KINDS = (
    "in-features", "in-channels", "norm-channels", "no-flatten", "flatten-batch", "lost-padding", "vanishes",
    "channels-last", "no-batch", "input-size", "second-linear", "view", "residual-stride", "residual-channels",
    "concat-sizes",
)  # fmt: skip


@dataclass
class Broken:
    """A text with a mistake.

    Attributes:
        path: of the layer that fails; functions are ``add_0``, ``cat_0``, ``view_0``.
        shape: of the input.
    """

    text: str
    path: str
    shape: tuple[int, ...]


@dataclass
class _Net:
    """A chain of blocks with a linear head; ``layers`` are names and constructors in order."""

    channels: int
    size: tuple[int, int]
    layers: list[tuple[str, str]] = field(default_factory=list)
    features: int = 0
    head: int = 0


def _draw(rng: random.Random) -> _Net:
    net = _Net(rng.choice([1, 3, 5]), (rng.randrange(24, 41), rng.randrange(24, 41)))
    channels, sizes = net.channels, list(net.size)
    for i in range(rng.randrange(2, 4)):
        width, kernel = rng.choice([4, 6, 8, 10]), rng.choice([3, 5])
        pad = rng.choice([kernel // 2, kernel // 2, 0])
        net.layers.append((f"conv{i}", f"nn.Conv2d({channels}, {width}, {kernel}, padding={pad})"))
        sizes = [n + 2 * pad - kernel + 1 for n in sizes]
        channels = width
        if rng.random() < 0.5:
            net.layers.append((f"norm{i}", f"nn.BatchNorm2d({channels})"))
        net.layers.append((f"act{i}", rng.choice(["nn.ReLU()", "nn.GELU()", "nn.LeakyReLU(0.1)"])))
        if i < 2:
            net.layers.append((f"pool{i}", rng.choice(["nn.MaxPool2d(2)", "nn.AvgPool2d(2)"])))
            sizes = [n // 2 for n in sizes]
    if min(sizes) < 2:
        return _draw(rng)
    net.features, net.head = channels * sizes[0] * sizes[1], rng.choice([10, 12, 20])
    net.layers += [("flatten", "nn.Flatten()"), ("fc0", f"nn.Linear({net.features}, {net.head})"),
                   ("act", "nn.ReLU()"), ("fc1", f"nn.Linear({net.head}, 7)")]  # fmt: skip
    return net


def draw(seed: int, kind: str) -> Broken:
    """Return a network with a mistake of this kind."""
    rng = random.Random(f"{seed}{kind}")
    if kind.startswith(("residual", "concat")):
        return _branches(rng, kind)
    net = _draw(rng)
    names = [name for name, _ in net.layers]
    shape: tuple[int, ...] = (rng.choice([2, 3]), net.channels, *net.size)
    convs = [i for i, name in enumerate(names) if name.startswith("conv")]
    path = "fc0"
    if kind == "in-features":
        _change(net, "fc0", str(net.features), str(net.features + rng.choice([-1, 1, 4])))
    elif kind == "in-channels":
        i = convs[rng.randrange(1, len(convs))]
        path, text = net.layers[i]
        first = text.split("(")[1].split(",")[0]
        net.layers[i] = (path, text.replace(f"({first},", f"({int(first) + rng.choice([1, 2])},", 1))
    elif kind == "norm-channels":
        i = next((i for i, name in enumerate(names) if name.startswith("norm")), None)
        width = int(net.layers[convs[0]][1].split(",")[1])
        i = convs[0] + 1 if i is None else i
        if not names[i].startswith("norm"):
            net.layers.insert(i, ("norm0", f"nn.BatchNorm2d({width})"))
        path = net.layers[i][0]
        net.layers[i] = (path, f"nn.BatchNorm2d({int(net.layers[i][1].split('(')[1][:-1]) + 1})")
    elif kind == "no-flatten":
        net.layers = [one for one in net.layers if one[0] != "flatten"]
    elif kind == "flatten-batch":
        _change(net, "flatten", "Flatten()", "Flatten(0)")
    elif kind == "lost-padding":
        padded = [i for i in convs if "padding=0" not in net.layers[i][1]]
        if not padded:
            return draw(seed + 1000, kind)
        i = rng.choice(padded)
        name, text = net.layers[i]
        net.layers[i] = (name, text.rpartition(",")[0] + ")")
        if _features(net, shape) == net.features:  # the pools rounded it away
            return draw(seed + 1000, kind)
    elif kind == "vanishes":
        at = names.index("flatten")
        for i in range(5):
            net.layers.insert(at + i, (f"deep{i}", "nn.MaxPool2d(2)"))
            if path := _vanishing(net, shape):
                break
    elif kind == "channels-last":
        path, shape = names[0], (shape[0], *net.size, net.channels)
    elif kind == "no-batch":
        path, shape = names[0], (net.size[0], net.size[1]) if net.channels == 1 else shape[1:]
    elif kind == "input-size":
        shape = (*shape[:2], net.size[0] + 8, net.size[1])
    elif kind == "second-linear":
        path = "fc1"
        _change(net, "fc1", str(net.head), str(net.head + 1))
    elif kind == "view":
        path = "view_0"
    return Broken(_as_class(net, kind), path, shape)


def _change(net: _Net, name: str, old: str, new: str) -> None:
    net.layers = [(n, text.replace(old, new, 1) if n == name else text) for n, text in net.layers]


def _features(net: _Net, shape: tuple[int, ...]) -> int | None:
    body = [text for name, text in net.layers if not name.startswith("fc")]
    row = Network.parse(f"nn.Sequential({', '.join(body)})").trace(shape).rows[-1]
    return None if row.shape is None else row.shape[-1]


def _vanishing(net: _Net, shape: tuple[int, ...]) -> str:
    """Return the first layer whose window is larger than what is left; empty where there is none."""
    sizes = list(shape[2:])
    for name, text in net.layers:
        if "Pool2d" in text:
            sizes = [n // 2 for n in sizes]
        elif "Conv2d" in text:
            kernel, pad = int(text.split(",")[2]), int(text.rpartition("=")[2][:-1])
            sizes = [n + 2 * pad - kernel + 1 for n in sizes]
        if min(sizes) < 1:
            return name
    return ""


def _as_class(net: _Net, kind: str) -> str:
    init = "".join(
        f"        self.{name} = {text}\n" for name, text in net.layers if kind != "view" or name != "flatten"
    )
    body = ""
    for name, _ in net.layers:
        if name == "flatten" and kind == "view":
            body += f"        x = x.view(-1, {net.features + 1})\n"
        else:
            body += f"        x = self.{name}(x)\n"
    return (
        f"class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n{init}\n"
        f"    def forward(self, x):\n{body}        return x\n"
    )


def _branches(rng: random.Random, kind: str) -> Broken:
    """Return a network of two branches that are added, or joined after an upsampling."""
    width, size = rng.choice([4, 6, 8]), (2 * rng.randrange(5, 12), 2 * rng.randrange(5, 12))
    stride, other = (2, width) if kind == "residual-stride" else (1, width + 2)
    if kind == "concat-sizes":
        init = (f"        self.stem = nn.Conv2d(3, {width}, 3, padding=1)\n        self.pool = nn.MaxPool2d(2)\n"
                f"        self.up = nn.ConvTranspose2d({width}, {width}, 2, stride=2)\n")  # fmt: skip
        body = "        x = self.stem(x)\n        x = torch.cat([x, self.up(self.pool(x))], dim=1)\n"
        size, path = (size[0] + 1, size[1]), "cat_0"
    else:
        init = (f"        self.stem = nn.Conv2d(3, {width}, 3, padding=1)\n"
                f"        self.left = nn.Conv2d({width}, {other}, 3, stride={stride}, padding=1)\n")  # fmt: skip
        body = "        x = F.relu(self.stem(x))\n        x = x + self.left(x)\n"
        path = "add_0"
    text = (
        f"class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n{init}\n"
        f"    def forward(self, x):\n{body}        return F.relu(x)\n"
    )
    return Broken(text, path, (2, 3, *size))


def judge(seed: int, kind: str) -> str:
    """Return what is wrong with the answer on one network; empty if nothing."""
    made = draw(seed, kind)
    network = Network.parse(made.text)
    try:
        network.trace(made.shape)
    except NetworkError as error:
        if error.path != made.path:
            return f"{error.path} is named instead of {made.path}: {error}"
        mends = find_mends(network, error, [made.shape]).found
        complete = [mend for mend in mends if mend.complete]
        if not complete:
            return f"no mend of {made.path}: {error}"
        for mend in complete:
            mended = mend.apply(made.text)
            try:
                Network.parse(mended).trace(*(mend.input_shapes or [made.shape]))
            except NetworkError as again:
                return f"the mend {mend} does not work: {again}\n{mended}"
        return ""
    return f"{made.path} fits"


def main(count: int) -> None:
    """Judge so many networks, all kinds in turn."""
    counts: Counter[str] = Counter()
    for seed in range(count):
        kind = KINDS[seed % len(KINDS)]
        problem = judge(seed, kind)
        counts["wrong" if problem else "right"] += 1
        if problem:
            print(f"{seed} {kind}: {problem}", flush=True)
    print(dict(counts))


if __name__ == "__main__":
    main(int(sys.argv[1]))
