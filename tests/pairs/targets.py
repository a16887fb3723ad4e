"""The frameworks and styles that networks are written in; each is imported when it is wanted."""

from __future__ import annotations

import functools
from typing import Any

from tests.pairs.judge import Writer
from tests.pairs.network import Net

KERAS = {"keras": "functional", "keras-sequential": "sequential", "keras-subclassed": "subclassed"}
NAMES = (*KERAS, "nnx", "linen", "equinox")


@functools.cache
def writer(name: str) -> Writer:
    """Return what makes and runs models of a target."""
    if name in KERAS:
        from tests.pairs import keras_writer

        build = functools.partial(_first, functools.partial(keras_writer.build, style=KERAS[name]))
        return Writer(build, keras_writer.run, _is_sequential if name == "keras-sequential" else _any)
    from tests.pairs import jax_writer

    if name == "equinox":
        return Writer(jax_writer.build_equinox, jax_writer.run_equinox, _suits_equinox, last=False)
    build = jax_writer.build_nnx if name == "nnx" else jax_writer.build_linen
    return Writer(build, jax_writer.run_last, _suits_flax)


def _first(build: Any, *arguments: Any) -> Any:
    return build(*arguments)[0]


def _any(net: Net) -> bool:
    return True


def _is_sequential(net: Net) -> bool:
    return net.is_chain


def _suits_flax(net: Net) -> bool:
    """Whether no batch norm is left in training, which changes the module that is compared."""
    return not any(op.get("training") for op in net.ops)


def _suits_equinox(net: Net) -> bool:
    """Whether Equinox has the pools: its averages count the pads, and it knows no 'same' there."""
    pools = [op for op in net.ops if op.kind in ("max_pool", "avg_pool")]
    return _suits_flax(net) and all(op.get("counted", True) and not op.get("same") for op in pools)
