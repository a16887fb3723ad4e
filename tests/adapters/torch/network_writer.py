"""Draw the text of PyTorch networks as people write them: a nested ``nn.Sequential``, or a class."""

from __future__ import annotations

import random
import textwrap

_ACTIVATIONS = [
    "ReLU()", "ReLU(inplace=True)", "ReLU6(True)", "LeakyReLU(0.2)", "LeakyReLU(negative_slope=0.1, inplace=True)",
    "ELU()",
    "ELU(alpha=0.5)", "CELU()", "SELU()", "GELU()", "GELU(approximate='tanh')", "SiLU()", "Mish()", "Sigmoid()",
    "LogSigmoid()", "Hardsigmoid()", "Hardswish()", "Tanh()", "Tanhshrink()", "Softplus()", "Softsign()",
    "Hardshrink()",
    "Softshrink(0.3)",
    "Hardtanh()", "Hardtanh(0, 4)", "RReLU()", "Softmax(dim=1)", "LogSoftmax(1)", "Threshold(0.1, 0)",
    "PReLU()", "Identity()", "Dropout()", "Dropout(p=0.25)", "AlphaDropout(0.1)", "Softmin(dim=1)",
]  # fmt: skip
_FUNCTIONS = [
    "F.relu({x})", "torch.relu({x})", "{x}.relu()", "F.leaky_relu({x}, 0.2)", "F.gelu({x})", "torch.sigmoid({x})",
    "torch.tanh({x})", "{x}.tanh()", "F.silu({x}, inplace=False)", "F.elu({x})", "F.softplus({x})", "{x}.clamp(min=0)",
    "torch.clamp({x}, -1, 1)", "F.dropout({x}, 0.5, training=self.training)", "F.softmax({x}, dim=1)", "{x}.softmax(1)",
    "F.normalize({x})", "{x} * 0.5 + 1", "1 - {x}", "-{x}", "{x} / 2", "{x}.abs().sqrt()", "{x} ** 2",
    "{x}.contiguous()",
    "torch.exp(-{x})", "{x} - {x}.mean(dim=1, keepdim=True)", "F.hardswish({x})", "{x}.clone().float()",
    "torch.cat(torch.chunk({x}, 2, dim=1)[::-1], 1)", "torch.cat({x}.split(1, 1), dim=1)", "{x}.mul({x})",
    "torch.stack([{x}, {x}]).sum(0)", "torch.stack([{x}, {x}], -1).mean(-1)", "{x}.unsqueeze(1).squeeze(1)",
    "torch.max({x}, torch.zeros_like({x}))", "{x} + torch.ones(1)", "{x}.transpose(1, 2).transpose(1, 2)",
    "torch.flip({x}, [2])", "sum({x}.unbind(1)).unsqueeze(1) + {x}",
    "{x}.contiguous().view({x}.shape)", "{x}.repeat_interleave(1, dim=1)",
    "{x}.flatten(2).reshape({x}.size())", "torch.minimum({x}, {x})", "{x}.max(dim=1, keepdim=True)[0] + {x}",
]  # fmt: skip


class Writer:
    """One network with ``ndim`` spatial axes; ``printed``: without what PyTorch does not print."""

    def __init__(self, seed: int, printed: bool = False) -> None:
        self.rng = random.Random(seed)
        self.rounds = not printed
        self.ndim = self.rng.choice((2, 2, 2, 1, 3))
        self.channels = self.rng.choice((1, 2, 3, 4))
        size = {1: (20, 40), 2: (12, 30), 3: (7, 11)}[self.ndim]
        self.shape = (2, self.channels, *(self.rng.randint(*size) for _ in range(self.ndim)))
        self.c = self.channels

    def pick(self, *values):
        return self.rng.choice(values)

    # -- layers -----------------------------------------------------------------------------------------------------

    def layer(self) -> str:
        """Return the text of a layer that takes ``self.c`` channels, and set those that it gives."""
        made = self.rng.choices(
            [self.conv, self.transposed, self.pool, self.norm, self.activation, self.move],
            (6, 1, 2, 3, 5, 2),
        )[0]()
        return f"nn.{made}" if not made.startswith("weight_norm") else made

    def size(self, least: int, most: int) -> str:
        if self.rng.random() < 0.6:
            return str(self.rng.randint(least, most))
        numbers = [str(self.rng.randint(least, most)) for _ in range(self.ndim)]
        return f"({', '.join(numbers)}{',' * (self.ndim == 1)})"

    def conv(self, plain: bool = False) -> str:
        n, out = self.ndim, self.pick(2, 4, 6, 8)
        groups = self.pick(1, 1, self.c) if out % self.c == 0 else 1
        if plain:
            same = self.pick("padding=1", "1, 1", "padding='same'")
            return f"Conv{n}d({self.c}, {self.c}, 3, {same})"
        options = [self.size(1, 3)]
        if self.rng.random() < 0.4:
            options.append(f"stride={self.size(1, 2)}")
        if self.rng.random() < 0.6:
            options.append(f"padding={self.size(0, 2)}" if "stride" in options[-1] else
                           f"padding={self.pick(self.size(0, 2), repr('same'), repr('valid'))}")  # fmt: skip
        if self.rng.random() < 0.2:
            options.append(f"dilation={self.size(1, 2)}")
        if groups > 1:
            options.append(f"groups={groups}")
        if self.rng.random() < 0.3:
            options.append("bias=False")
        if self.rng.random() < 0.15:
            options.append(f"padding_mode={self.pick('reflect', 'replicate', 'circular')!r}")
        lazy = groups == 1 and self.rng.random() < 0.1
        text = f"{'Lazy' * lazy}Conv{n}d({'' if lazy else f'{self.c}, '}{out}, {', '.join(options)})"
        self.c = out
        return f"weight_norm(nn.{text})" if not lazy and self.rng.random() < 0.08 else text

    def transposed(self) -> str:
        out, c = self.pick(2, 4, 6), self.c
        self.c = out
        rest = self.pick(
            "2, 2", "2, stride=2", "3, stride=2, padding=1, output_padding=1", "4, 2, 1", "3", "3, 1, 1, bias=False"
        )
        return f"ConvTranspose{self.ndim}d({c}, {out}, {rest})"

    def pool(self) -> str:
        n = self.ndim
        return self.pick(
            f"MaxPool{n}d(2)", f"MaxPool{n}d(kernel_size=3, stride=2, padding=1)", f"MaxPool{n}d(2, ceil_mode=True)",
            f"MaxPool{n}d(2, 1, dilation=2)", f"AvgPool{n}d(2)", f"AvgPool{n}d(3, 2, 1, count_include_pad=False)",
            f"AvgPool{n}d({self.size(1, 3)}, ceil_mode={self.rounds})", f"LPPool{n}d(2, 2)",
            f"AdaptiveAvgPool{n}d({self.size(3, 8)})",
            f"AdaptiveMaxPool{n}d({self.size(3, 8)})", "Upsample(scale_factor=2)", f"Upsample(size={self.size(4, 9)})",
            f"Upsample(scale_factor=1.5, mode={('linear', 'bilinear', 'trilinear')[n - 1]!r}, align_corners=True)",
        )  # fmt: skip

    def norm(self) -> str:
        n, c = self.ndim, self.c
        return self.pick(
            f"BatchNorm{n}d({c})", f"BatchNorm{n}d(num_features={c}, eps=1e-3, affine=False)", f"InstanceNorm{n}d({c})",
            f"InstanceNorm{n}d({c}, affine=True)", f"GroupNorm(1, {c})", f"GroupNorm({c}, {c}, eps=1e-6)",
            "LocalResponseNorm(3)", f"LazyBatchNorm{n}d()", f"PReLU({c})", f"BatchNorm{n}d({c}, momentum=0.01)",
        )  # fmt: skip

    def activation(self) -> str:
        return self.pick(*_ACTIVATIONS)

    def move(self) -> str:
        n = self.ndim
        choices = [f"ConstantPad{n}d(1, 2.0)", f"ZeroPad{n}d(1)", f"ReflectionPad{n}d(1)",
                   f"ReplicationPad{n}d({self.sides()})",
                   f"CircularPad{n}d(1)", f"Dropout{n}d(0.3)", "Identity()"]  # fmt: skip
        if n == 2 and self.c % 2 == 0:
            choices += ["ChannelShuffle(2)", "GLU(dim=1)"] + ["PixelShuffle(2)"] * 2 * (self.c % 4 == 0)
        made = self.rng.choice(choices)
        self.c = self.c // 4 if made == "PixelShuffle(2)" else self.c // 2 if made == "GLU(dim=1)" else self.c
        return made

    def sides(self) -> str:
        return str(tuple(self.rng.randint(0, 2) for _ in range(2 * self.ndim)))

    # -- sequences --------------------------------------------------------------------------------------------------

    def sequential(self, depth: int = 0) -> str:
        parts = []
        for _ in range(self.rng.randint(1, 4)):
            parts.append(self.sequential(depth + 1) if depth < 2 and self.rng.random() < 0.25 else self.layer())
        if depth == 0:
            parts += self.tail()
        if depth and self.rng.random() < 0.3:
            pairs = ", ".join(f"('{self.pick('a', 'conv', 'b')}{i}', {p})" for i, p in enumerate(parts))
            return f"nn.Sequential(OrderedDict([{pairs}]))"
        return "nn.Sequential(" + textwrap.indent("\n" + ",\n".join(parts), "    ") + ",\n)"

    def tail(self) -> list[str]:
        n = self.ndim
        return self.rng.choice([
            [],
            ["nn.Flatten()", "nn.LazyLinear(5)", "nn.ReLU()", "nn.Linear(5, 3, bias=False)"],
            [f"nn.AdaptiveAvgPool{n}d(1)", "nn.Flatten(1)", f"nn.Linear({self.c}, 7)", "nn.BatchNorm1d(7)",
             "nn.Softmax(-1)"],
            [f"nn.AdaptiveAvgPool{n}d(2)", "nn.Flatten()", f"nn.Linear({self.c}*2**{n}, 4)", "nn.Unflatten(1, (2, 2))",
             "nn.LayerNorm(2)"],
        ])  # fmt: skip

    # -- classes ----------------------------------------------------------------------------------------------------

    def network(self) -> str:
        """Return the text of a class ``Net``, with classes of blocks before it."""
        init, forward = [f"c = {self.c}"], []
        for number in range(self.rng.randint(2, 6)):
            part = self.rng.choice([
                self._layer, self._layer, self._layer, self._function, self._residual, self._branches, self._blocks,
                self._made, self._gate, self._pooled, self._linear, self._shared, self._scale, self._skip,
            ])  # fmt: skip
            made, used = part(f"m{number}")
            init += made
            forward += used
        ending = self.pick("x = x.contiguous().view(x.size(0), -1)", "x = torch.flatten(x, 1)", "x = x.flatten(1)",
                           "x = x.reshape(x.shape[0], -1)", "b, *_ = x.shape; x = x.reshape(b, -1)")  # fmt: skip
        init.append("self.fc = nn.LazyLinear(num_classes)")
        body = [*forward, ending, "return self.fc(x)"]
        super_ = self.pick("super().__init__()", "super(Net, self).__init__()")
        return _BLOCKS.replace("2d", f"{self.ndim}d") + "\n".join([
            "class Net(nn.Module):",
            "    def __init__(self, num_classes=3, width=2):",
            *(f"        {line}" for line in [super_, *init]),
            "",
            "    def make(self, cin, cout, count):",
            "        layers = []",
            "        for i in range(count):",
            f"            layers.append(nn.Conv{self.ndim}d(cin if i == 0 else cout, cout, 3, padding=1))",
            "            layers += [nn.ReLU()]",
            "        return nn.Sequential(*layers)",
            "",
            "    def forward(self, x):",
            *(f"        {line}" for line in body),
            "",
        ])  # fmt: skip

    def _layer(self, name):
        return [f"self.{name} = {self.layer()}"], [f"x = self.{name}(x)"]

    def _function(self, name):
        return [], [f"x = {self.pick(*_FUNCTIONS).format(x='x')}"]

    def _residual(self, name):
        add = self.pick("x = x + y", "x = torch.add(x, y)", "y += x\nx = y", "x = y.add(x)", "x = F.relu(x + y)")
        made = f"self.{name} = nn.Sequential(nn.{self.conv(plain=True)}, nn.BatchNorm{self.ndim}d({self.c}), nn.ReLU())"
        return [made], [f"y = self.{name}(x)", *add.split("\n")]

    def _branches(self, name):
        count, n, c = self.rng.randint(2, 3), self.ndim, self.c
        conv = f"nn.Conv{n}d({c}, width, 3, padding=d, dilation=d)"
        made = f"self.{name} = nn.ModuleList([{conv} for d in range(1, {count + 1})])"
        self.c = 2 * count
        return [made], self.rng.choice([
            [f"x = torch.cat([f(x) for f in self.{name}], dim=1)"],
            ["found = []", f"for f in self.{name}:", "    found.append(F.relu(f(x)))", "x = torch.cat(found, 1)"],
            [f"x = torch.cat([self.{name}[i](x) for i in range({count})], -{n + 1})"],
        ])  # fmt: skip

    def _blocks(self, name):
        kind, count = self.pick("Block", "Dense", "Bottleneck"), self.rng.randint(1, 3)
        c = self.c
        if kind == "Dense":
            self.c += 2 * count
            made = [f"self.{name} = nn.ModuleList()", f"for i in range({count}):",
                    f"    self.{name}.append(Dense({c} + i * width, growth=width))"]  # fmt: skip
        else:
            made = [f"self.{name} = nn.ModuleList([{kind}({c}) for _ in range({count})])"]
        return made, [f"for block in self.{name}:", "    x = block(x)"]

    def _made(self, name):
        out, c, self.c = self.pick(2, 4), self.c, 0
        self.c = out * 2
        return [f"self.{name} = self.make({c}, {out} * width, {self.rng.randint(1, 2)})"], [f"x = self.{name}(x)"]

    def _gate(self, name):
        n, axes = self.ndim, tuple(range(2, self.ndim + 2))
        made = f"self.{name} = nn.Conv{n}d({self.c}, {self.c}, kernel_size=1)"
        pooled = self.pick(f"x.mean({axes}, keepdim=True)", f"F.adaptive_avg_pool{n}d(x, 1)", f"x.amax({axes}, True)")
        return [made], [
            f"s = self.{name}({pooled})",
            self.pick("x = x * torch.sigmoid(s)", "x = x * s.sigmoid().expand_as(x)"),
        ]

    def _pooled(self, name):
        n = self.ndim
        mode = ("linear", "bilinear", "trilinear")[n - 1]
        pads = tuple(self.rng.randint(0, 2) for _ in range(2 * n))
        return [], [self.pick(
            f"x = F.max_pool{n}d(x, 2)", f"x = F.max_pool{n}d(x, kernel_size=3, stride=1, padding=1)",
            f"x = F.avg_pool{n}d(x, 2, ceil_mode=True)", f"x = F.interpolate(x, scale_factor=2, mode='{mode}')",
            f"x = F.interpolate(x, size=x.shape[2:], mode='{mode}', align_corners=False)", f"x = F.pad(x, {pads})",
            f"x = F.pad(x, {pads}, mode='replicate')", "x = x[:, :, 1:]", "x = x[..., ::2]",
            f"x = F.lp_pool{n}d(x, 2, 2)",
            f"x, _ = F.max_pool{n}d(x, 2, return_indices=True)", f"x = F.adaptive_max_pool{n}d(x, 5)",
        )]  # fmt: skip

    def _linear(self, name):
        order = (0, *range(2, self.ndim + 2), 1)
        back = (0, self.ndim + 1, *range(1, self.ndim + 1))
        c, self.c = self.c, self.pick(3, 4)
        kind = self.pick(
            f"nn.Linear({c}, {self.c})", f"nn.Sequential(nn.LayerNorm({c}), nn.Linear({c}, {self.c}), nn.GELU())"
        )
        return [f"self.{name} = {kind}"], [f"x = self.{name}(x.permute{order}).permute({', '.join(map(str, back))})"]

    def _shared(self, name):
        return [f"self.{name} = nn.{self.conv(plain=True)}"], [f"x = self.{name}(F.relu(self.{name}(x)))"]

    def _scale(self, name):
        ones = ", 1" * self.ndim
        return [f"self.{name} = nn.Parameter(torch.ones(1, {self.c}{ones}))"], [f"x = x * self.{name}"]

    def _skip(self, name):
        made = [f"self.{name} = nn.{self.conv(plain=True)} if {self.pick(True, False)} else nn.Identity()"]
        return made, [
            f"skip = self.{name}(x)",
            f"if skip.shape == x.shape and self.{name} is not None:",
            "    x = x + skip",
        ]


_BLOCKS = '''
class Block(nn.Module):
    """A residual block."""
    expansion: int = 2

    def __init__(self, channels, act=nn.ReLU, norm=None):
        super().__init__()
        norm = norm or nn.BatchNorm2d
        hidden = int(channels * self.expansion)
        self.conv1 = nn.Conv2d(channels, hidden, 3, padding=3 // 2, bias=False)
        self.bn1 = norm(hidden)
        self.conv2 = nn.Conv2d(hidden, channels, kernel_size=1)
        self.act = act(inplace=True)

    def forward(self, x):
        identity = x
        out = self.act(self.bn1(self.conv1(x)))
        out = self.conv2(out)
        out += identity
        return self.act(out)


class Bottleneck(Block):
    expansion = 3

    def __init__(self, channels):
        super().__init__(channels, act=lambda inplace: nn.LeakyReLU(0.1, inplace=inplace))
        self.extra = nn.Sequential(*[nn.Conv2d(channels, channels, 1) for _ in range(2)])

    def forward(self, x):
        return self.extra(super().forward(x))


class Dense(nn.Module):
    def __init__(self, cin, growth):
        super(Dense, self).__init__()
        self.add_module("norm", nn.BatchNorm2d(cin))
        self.layer = nn.Conv2d(cin, growth, kernel_size=3, padding=1)

    def forward(self, x):
        new = self.layer(F.relu(self.norm(x)))
        return torch.cat([x, new], 1)


'''
