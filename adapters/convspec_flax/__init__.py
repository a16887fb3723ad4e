"""Flax: the adapters ``flax`` (``flax.nnx``) and ``flax-linen`` (``flax.linen``)."""

from __future__ import annotations

from dataclasses import dataclass

from convspec.contract import ConvSpec, PlanAdapter, adapter_of, parse_call
from convspec.errors import CallError


@dataclass(frozen=True)
class _FlaxAdapter(PlanAdapter):
    """Both APIs use the same convolution of JAX, so their gaps are in one file; each reads the other's layers."""

    def parse(self, call: str, in_channels: int | None = None) -> ConvSpec:
        try:
            name = adapter_of(parse_call(call))
        except CallError:
            name = self.name
        owner = {ADAPTER.name: ADAPTER, LINEN.name: LINEN}.get(name, self)
        return super(_FlaxAdapter, owner).parse(call, in_channels)

    def gaps(self) -> str:
        return super().gaps() if self.package == __name__ else ADAPTER.gaps()


def _adapter(name: str, package: str, root: str) -> _FlaxAdapter:
    return _FlaxAdapter(
        name=name,
        package=package,
        requires=("flax", "jax"),
        distributions=("flax", "jax", "jaxlib"),
        native_layout="NHWC",
        dtypes=("float32", "float64", "float16", "bfloat16"),
        roots=(root,),
        weight_files=(".msgpack",) if package == __name__ else (),
    )


ADAPTER = _adapter("flax", "convspec_flax", "flax.nnx")
LINEN = _adapter("flax-linen", "convspec_flax.linen", "flax.linen")

__all__ = ["ADAPTER", "LINEN"]
