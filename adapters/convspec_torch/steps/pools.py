"""Pools and resizing."""

from __future__ import annotations

from collections.abc import Iterable

from convspec.contract.tracing import Link
from convspec_torch.network.meanings import LINEAR, resize
from convspec_torch.steps.calls import FIRST, Builder, Call, batched, by_word, step_of


def _pool(name: str, ndim: int) -> Builder:
    def build(call: Call) -> Iterable[Link]:
        note = "it returns the positions of the maxima too" if len(call.results) > 1 else ""
        return batched(call, step_of(call, name, shaped=False), ndim, note=note)

    return build


def _operator(mode: str, antialias: bool = False) -> Builder:
    """Return the builder of an ``upsample_…`` operator."""

    def build(call: Call) -> Link:
        given = call.given("output_size", "align_corners")
        ndim = call.x.ndim - 2
        scales = given.get("scale_factors") or [given[n] for n in ("scales_d", "scales_h", "scales_w", "scales")
                                                if given.get(n) is not None]  # fmt: skip
        scale = tuple(scales[-ndim:]) if scales else None
        where = {"scale": scale} if scale else {"size": tuple(given["output_size"])}
        return call.link(resize(mode, where, align=bool(given.get("align_corners")), antialias=antialias), layout=FIRST)

    return build


TABLE: dict[str, Builder] = {"interpolate": by_word("interpolate"), "upsample_bicubic2d": _operator("bicubic"),
                             "_upsample_bicubic2d_aa": _operator("bicubic", antialias=True),
                             "_upsample_bilinear2d_aa": _operator("bilinear", antialias=True)}  # fmt: skip
for _n in (1, 2, 3):
    for _name in ("max_pool", "avg_pool", "lp_pool", "adaptive_avg_pool", "adaptive_max_pool"):
        _names = (f"{_name}{_n}d", f"_{_name}{_n}d", f"{_name}{_n}d_with_indices")
        TABLE |= dict.fromkeys(_names, _pool(_names[0], _n))
    TABLE |= {
        f"upsample_nearest{_n}d": _operator("nearest"),
        f"_upsample_nearest_exact{_n}d": _operator("nearest-exact"),
    }
    TABLE |= {f"upsample_{LINEAR[_n - 1]}{_n}d": _operator(LINEAR[_n - 1])}
