"""Flax: the adapters ``flax`` (``flax.nnx``) and ``flax-linen`` (``flax.linen``)."""

from __future__ import annotations

from dataclasses import dataclass

from convspec.contract import PlanAdapter


@dataclass(frozen=True)
class _FlaxAdapter(PlanAdapter):
    """Both APIs use the same convolution of JAX, so their gaps are in one file."""

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
