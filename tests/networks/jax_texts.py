"""Random networks as text, as users of Flax (nnx, linen) and Equinox write them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

HEADS = {
    "nnx": "from functools import partial\nimport jax\nimport jax.numpy as jnp\nfrom flax import nnx\n",
    "linen": "import jax\nimport jax.numpy as jnp\nfrom flax import linen as nn\n",
    "equinox": "import equinox as eqx\nimport jax\nimport jax.numpy as jnp\nkey = jax.random.key(0)\n",
}
FORMS = {"nnx": ("class", "list", "sequence"), "linen": ("compact", "class", "list", "sequence"),
         "equinox": ("class", "list", "sequence", "state")}  # fmt: skip
_PREFIX = {"nnx": "nnx.", "linen": "nn.", "equinox": "jax.nn."}
_ACTIVATIONS = ("relu", "gelu", "silu", "elu", "leaky_relu", "softplus", "tanh", "sigmoid", "hard_swish", "softmax")


@dataclass
class Drawn:
    """A random network while it is written: its operations so far, and the sizes of its tensor.

    Attributes:
        operations: constructors of layers, and expressions of ``{x}``.
    """

    flavour: str
    form: str
    rng: random.Random
    channels: int = 0
    sizes: list[int] = field(default_factory=list)
    operations: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.channels, ndim = self.rng.choice((1, 2, 3, 4)), self.rng.choice((1, 2, 2, 2, 3))
        self.sizes = [self.rng.randint(9, 16) for _ in range(ndim)]

    @property
    def shape(self) -> tuple[int, ...]:
        eqx = self.flavour == "equinox"
        return (self.channels, *self.sizes) if eqx else (2, *self.sizes, self.channels)

    @property
    def ndim(self) -> int:
        return len(self.sizes)

    def layer(self, call: str, **words: object) -> None:
        """Add a layer; ``rngs``, ``key`` and channels are added as its framework wants them."""
        last = (
            {"nnx": ["rngs=rngs"], "linen": [], "equinox": ["key=key"]}[self.flavour] if words.pop("own", True) else []
        )
        given = [f"{name}={value!r}" for name, value in words.items() if value is not None] + last
        place = {"nnx": "nnx.", "linen": "nn.", "equinox": "eqx.nn."}[self.flavour]
        self.operations.append(("layer", f"{place}{call}{', ' if given else ''}{', '.join(given)})"))

    def windows(self, kernel: list[int], strides: list[int], dilation: int, pads: object) -> bool:
        """Set the sizes that windows give; False where one has no place."""
        spans = [(k - 1) * dilation + 1 for k in kernel]
        if pads == "SAME":
            new = [-(-n // s) for n, s in zip(self.sizes, strides, strict=True)]
        else:
            pairs = [(0, 0)] * self.ndim if pads == "VALID" else [(p, p) if isinstance(p, int) else p for p in (
                [pads] * self.ndim if isinstance(pads, int) else pads)]  # fmt: skip
            rows = zip(self.sizes, pairs, spans, strides, strict=True)
            new = [(n + lo + hi - span) // s + 1 for n, (lo, hi), span, s in rows]
        if min(new) < 1:
            return False
        self.sizes = new
        return True

    # -- operations ---------------------------------------------------------------------------------------------

    def conv(self) -> None:
        rng, eqx = self.rng, self.flavour == "equinox"
        kernel, strides = ([rng.randint(1, most) for _ in self.sizes] for most in (4, 2))
        dilation, groups = rng.choice((1, 1, 2)), rng.choice((1, 1, self.channels))
        pads = rng.choice(("SAME", "VALID", 1, tuple((rng.randint(0, 2), rng.randint(0, 2)) for _ in self.sizes)))
        outputs = groups * rng.randint(1, 3) if groups > 1 else rng.randint(2, 8)
        if not self.windows(kernel, strides, dilation, pads):
            return
        first = f"{self.channels}, " if self.flavour != "linen" else ""
        names = ("stride", "dilation", "groups") if eqx else ("strides", "kernel_dilation", "feature_group_count")
        words = dict(zip(names, (tuple(strides), dilation, groups), strict=True))
        name = f"Conv{self.ndim}d" if eqx else "Conv"
        bias = rng.choice((True, False))
        self.layer(f"{name}({first}{outputs}, {tuple(kernel)}", padding=pads, use_bias=bias, **words)
        self.channels = outputs

    def transposed(self) -> None:
        rng, outputs, k, s = self.rng, self.rng.randint(2, 5), self.rng.randint(2, 4), self.rng.randint(1, 2)
        if max(self.sizes) > 30:
            return
        first = f"{self.channels}, " if self.flavour != "linen" else ""
        if self.flavour == "equinox":
            pad = rng.choice((0, 1))
            new = [(n - 1) * s + k - 2 * pad for n in self.sizes]
            if min(new) < 1:
                return
            self.layer(f"ConvTranspose{self.ndim}d({first}{outputs}, {k}", stride=s, padding=pad)
        else:
            pads = rng.choice(("SAME", "VALID"))
            self.layer(f"ConvTranspose({first}{outputs}, {(k,) * self.ndim}", strides=(s,) * self.ndim, padding=pads)
            new = [n * s + (max(k - s, 0) if pads == "VALID" else 0) for n in self.sizes]
        self.channels, self.sizes = outputs, new

    def norm(self) -> None:
        kinds = ["LayerNorm", "GroupNorm", "RMSNorm"]
        kinds += ["BatchNorm"] if self.flavour != "equinox" or self.form == "state" else []
        kinds += ["InstanceNorm"] if self.flavour != "equinox" else []
        kind, c = self.rng.choice(kinds), self.channels
        groups = self.rng.choice([g for g in range(1, c + 1) if c % g == 0])
        if self.flavour == "equinox":
            first = {"GroupNorm": f"{groups}, {c}", "BatchNorm": f"{c}, 'batch', mode='batch'"}.get(
                kind, str(self.shape)
            )
            self.layer(f"{kind}({first}", own=False)
            return
        words = {"use_running_average": True} if kind == "BatchNorm" else {}
        words |= {"num_groups": groups} if kind == "GroupNorm" else {}
        words |= {"use_scale": False} if self.rng.random() < 0.2 else {}
        first = str(c) if self.flavour == "nnx" else ""
        self.layer(f"{kind}({first}" if first or not words else f"{kind}(**{words}", **(words if first else {}))

    def small_layer(self) -> None:
        eqx, rate = self.flavour == "equinox", self.rng.choice((0.1, 0.5))
        if self.rng.random() < 0.5 or (eqx and self.form == "sequence"):  # Equinox' Sequential cannot call a PReLU
            self.layer(f"Dropout({rate}", own=False, **{"inference" if eqx else "deterministic": True})
        else:
            self.layer("PReLU(", own=False)

    def pool(self) -> None:
        rng, kind, k = self.rng, self.rng.choice(("max", "avg")), self.rng.randint(2, 3)
        strides = [rng.randint(1, 2) for _ in self.sizes]
        if self.flavour == "equinox":
            pads: object = rng.choice((0, 1))
            if self.windows([k] * self.ndim, strides, 1, pads):
                name = f"{kind.title()}Pool{self.ndim}d"
                self.layer(f"{name}({k}", own=False, stride=tuple(strides), padding=pads)
            return
        pads = rng.choice(("SAME", "VALID", ((1, 1),) * self.ndim))
        if self.windows([k] * self.ndim, strides, 1, pads):
            place = _PREFIX[self.flavour]
            words = f"({k},) * {self.ndim}, strides={tuple(strides)}, padding={pads!r}"
            if self.flavour == "nnx" and rng.random() < 0.4:
                words = words.replace(f"({k},) * {self.ndim}", f"window_shape={(k,) * self.ndim}")
                self.operations.append(("function", f"partial({place}{kind}_pool, {words})"))
            else:
                self.operations.append(("expression", f"{place}{kind}_pool({{x}}, {words})"))

    def activation(self) -> None:
        name = self.rng.choice(_ACTIVATIONS)
        self.operations.append(("function", f"{_PREFIX[self.flavour]}{name}"))

    def expression(self) -> None:
        """Add an expression on arrays."""
        last = self.ndim if self.flavour == "equinox" else self.ndim + 1
        choices = [
            "{x} * 0.5 + 1", "2 - {x}", "jnp.tanh({x}) / 3", "jnp.maximum({x}, 0)", "jnp.clip({x}, -1, 1)", "-{x}",
            "{x}.astype(jnp.float32)", "jnp.flip({x}, axis=-1)", "{x} * jax.nn.sigmoid({x})", "jnp.sqrt(jnp.abs({x}))",
            f"jnp.swapaxes(jnp.swapaxes({{x}}, 1, {last}), 1, {last})", "jnp.squeeze({x}[None], 0)",
            "jnp.moveaxis(jnp.moveaxis({x}, 0, -1), -1, 0)", "{x} / jnp.max({x}, axis=-1, keepdims=True)",
            "jnp.stack([{x}, {x}], axis=-1).mean(axis=-1)", "jnp.stack([{x}, {x}]).sum(0)",
            "jnp.concatenate(jnp.split({x}, [1], axis=-1), axis=-1)", "{x}.reshape({x}.shape)",
            "jnp.expand_dims({x}, 1).squeeze(1)", "{x}.transpose(*range({x}.ndim))", "jnp.pad({x}, 0, mode='edge')",
        ]  # fmt: skip
        if self.flavour == "equinox":
            choices += [
                f"jnp.pad({{x}}, ((0, 0),) + ((1, 0),) * {self.ndim})",
                "{x}[:, ::2]",
                "jnp.repeat({x}, 2, axis=1)",
            ]
        else:
            choices += [f"jnp.pad({{x}}, ((0, 0), *[(1, 0)] * {self.ndim}, (0, 0)))", "{x}[:, ::2]",
                        "jnp.repeat({x}, 2, axis=1)"]  # fmt: skip
        sizes = [n + self.rng.randint(0, 3) for n in self.sizes]
        shape = (
            f"({self.channels}, *{sizes})"
            if self.flavour == "equinox"
            else f"(*{{x}}.shape[:1], *{sizes}, {self.channels})"
        )
        choices.append(f"jax.image.resize({{x}}, {shape}, 'bilinear')")
        text = self.rng.choice(choices)
        if "pad" in text and "1, 0" in text:
            self.sizes = [n + 1 for n in self.sizes]
        elif "::2" in text:
            self.sizes[0] = -(-self.sizes[0] // 2)
        elif "repeat" in text:
            self.sizes[0] *= 2
        elif "resize" in text:
            self.sizes = sizes
        self.operations.append(("expression", text))

    def head(self) -> None:
        eqx, rng = self.flavour == "equinox", self.rng
        total = self.channels
        if rng.random() < 0.5:
            axes = tuple(range(1, self.ndim + 1))
            self.operations.append(("expression", rng.choice((f"{{x}}.mean({axes})", f"jnp.max({{x}}, axis={axes})"))))
        else:
            for n in self.sizes:
                total *= n
            ways = ("jnp.ravel({x})", "{x}.reshape(-1)", "jnp.reshape({x}, (-1,))", "{x}.flatten()")
            if not eqx:
                size = rng.choice(("{x}.shape[0]", "len({x})"))
                ways = (
                    f"{{x}}.reshape({size}, -1)",
                    f"{{x}}.reshape(({size}, -1))",
                    f"jnp.reshape({{x}}, ({size}, -1))",
                )
            self.operations.append(("expression", rng.choice(ways)))
        for outputs in (rng.randint(4, 9), 3)[rng.randint(0, 1) :]:
            name = "Dense(" if self.flavour == "linen" else f"Linear({total}, "
            self.layer(f"{name}{outputs}", use_bias=rng.choice((True, False)))
            total = outputs

    def draw(self) -> None:
        kinds = [self.conv] * 4 + [self.transposed, self.norm, self.norm, self.small_layer, self.pool, self.activation,
                                   self.activation, self.expression, self.expression]  # fmt: skip
        for _ in range(self.rng.randint(2, 9)):
            self.rng.choice(kinds)()
        if self.rng.random() < 0.6:
            self.head()


def network_text(flavour: str, seed: int) -> tuple[str, tuple[int, ...], str]:
    """Return the text of a random network, called ``model``, the shape of its input, and the form it is written in."""
    rng = random.Random(f"{flavour} {seed}")
    form = rng.choice(FORMS[flavour])
    drawn = Drawn(flavour, form, rng)
    shape = drawn.shape
    drawn.draw()
    written = _sequence(drawn) if form == "sequence" else _class(drawn)
    return f"{HEADS[flavour]}\n{written}\n", shape, form


def _sequence(drawn: Drawn) -> str:
    items = [_item(drawn, *operation) for operation in drawn.operations] or [f"{_PREFIX[drawn.flavour]}relu"]
    if drawn.flavour == "nnx":
        return f"rngs = nnx.Rngs(0)\nmodel = nnx.Sequential({', '.join(items)})"
    return f"model = {'nn' if drawn.flavour == 'linen' else 'eqx.nn'}.Sequential([{', '.join(items)}])"


def _item(drawn: Drawn, role: str, text: str) -> str:
    if role == "expression":
        text = "lambda x: " + text.format(x="x")
    return text if role == "layer" or drawn.flavour != "equinox" or drawn.form == "list" else f"eqx.nn.Lambda({text})"


def _class(drawn: Drawn) -> str:
    flavour, compact, state = drawn.flavour, drawn.form == "compact", drawn.form == "state"
    made, calls = [], []
    for i, (role, text) in enumerate(drawn.operations):
        if role == "expression":
            calls.append(f"x = {text.format(x='x')}")
        elif (role == "function" and drawn.rng.random() < 0.5) or compact:
            calls.append(f"x = {text}(x)")
        elif state and "BatchNorm" in text:
            made.append(f"self.layer{i} = {text}")
            calls.append(f"x, state = self.layer{i}(x, state)")
        else:
            made.append(f"self.layer{i} = {text}")
            calls.append(f"x = self.layer{i}(x)")
    if drawn.form == "list":
        items = ", ".join(_item(drawn, *operation) for operation in drawn.operations)
        made = [f"self.layers = nnx.List([{items}])" if flavour == "nnx" else f"self.layers = [{items}]"]
        calls = ["for layer in self.layers:", "    x = layer(x)"]
    base, init = {"nnx": ("nnx.Module", "__init__(self, rngs)"), "linen": ("nn.Module", "setup(self)"),
                  "equinox": ("eqx.Module", "__init__(self, key)")}[flavour]  # fmt: skip
    fields = sorted({line.split(" = ")[0][5:] for line in made}) if flavour == "equinox" else []
    lines = [f"class Network({base}):", *(f"    {name}: object" for name in fields)]
    lines += [] if compact else [f"    def {init}:", *(f"        {line}" for line in made or ["pass"])]
    lines += ["    @nn.compact"] if compact else []
    lines += [f"    def __call__(self, x{', state' if state else ''}):", *(f"        {line}" for line in calls)]
    lines.append(f"        return {'x, state' if state else 'x'}\n")
    last = {"nnx": "model = Network(nnx.Rngs(0))", "linen": "model = Network()", "equinox": "model = Network(key)"}[
        flavour
    ]
    return "\n".join([*lines, "model, state = eqx.nn.make_with_state(Network)(key)" if state else last])
