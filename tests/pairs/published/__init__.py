"""Ten published networks, each written twice by hand: in PyTorch, and as the users of another framework write it."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple


class Pair(NamedTuple):
    """A network: the function of its name in ``torch_models`` and in a module of the target, and its inputs' shapes.

    ``width`` divides all channels; ``small`` are the shapes for such a network.
    """

    name: str
    paper: str
    target: str
    shapes: tuple[tuple[int, ...], ...]
    small: tuple[tuple[int, ...], ...]

    def build(self, width: int = 1) -> tuple[Any, Any]:
        """Return the two models; their weights have nothing in common."""
        function = self.name.lower().replace("-", "_").replace(" ", "_")
        modules = (importlib.import_module(f"{__name__}.{name}_models") for name in ("torch", self.target))
        source, target = (getattr(module, function)(width) for module in modules)
        return source, target


PAIRS = (
    Pair("ResNet-50", "He et al. 2016, table 1", "keras", ((1, 3, 224, 224),), ((1, 3, 64, 64),)),
    Pair("EfficientNet-B0", "Tan and Le 2019, table 1", "keras", ((1, 3, 224, 224),), ((1, 3, 63, 64),)),
    Pair("ConvNeXt-T", "Liu et al. 2022, section 3", "nnx", ((1, 3, 224, 224),), ((1, 3, 64, 96),)),
    Pair("U-Net", "Ronneberger et al. 2015, figure 1", "keras", ((1, 1, 572, 572),), ((1, 1, 188, 188),)),
    Pair("DCGAN", "Radford et al. 2016, figure 1", "keras", ((1, 100),), ((2, 100),)),
    Pair("HiFi-GAN", "Kong et al. 2020, table 5, V1", "keras", ((1, 80, 32),), ((1, 80, 5),)),
    Pair("DeepLab ASPP", "Chen et al. 2017, figure 5", "keras", ((1, 2048, 33, 33),), ((1, 256, 17, 19),)),
    Pair("WaveNet", "Van den Oord et al. 2016, section 2", "keras", ((1, 256, 4000),), ((1, 256, 50),)),
    Pair(
        "RetinaNet head", "Lin et al. 2017, section 4", "nnx",
        tuple((1, 256, n, n) for n in (100, 50, 25, 13, 7)), tuple((1, 32, n, n + 1) for n in (13, 7, 4)),
    ),
    Pair("nnU-Net", "Isensee et al. 2021, 3d_fullres", "keras", ((1, 1, 64, 64, 64),), ((1, 1, 64, 32, 64),)),
)  # fmt: skip
