"""The trace of a model of ``flax.linen``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from flax import linen as nn

from convspec.contract import Array, StepTrace
from convspec_flax import steps
from convspec_flax.linen import read

_KINDS = (nn.Conv, nn.ConvTranspose, nn.Dense, nn.BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm, nn.RMSNorm,
          nn.Dropout, nn.Embed, nn.PReLU)  # fmt: skip


def trace_steps(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> StepTrace:
    """Run the module once, and list its steps; its own settings say whether in training."""
    module, variables = read._parted(model)
    found = jax.tree_util.tree_leaves_with_path(nn.meta.unbox(variables))
    parameters = {"/".join(str(getattr(key, "key", key)) for key in path[1:]): leaf for path, leaf in found}
    names, tree = list(inputs) if isinstance(inputs, Mapping) else [], jax.tree.structure(nn.meta.unbox(variables))

    def call(leaves: Sequence[Any], given: Sequence[Any]) -> Any:
        args, words = ((), dict(zip(names, given, strict=True))) if names else (given, {})
        with read.replaced(nn.Module, _called):
            return jax.tree.leaves(module.apply(jax.tree.unflatten(tree, leaves), *args, **words))

    return steps.traced(call, parameters, inputs, str(read._dtype(variables)))


def _called(module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    kind = type(module)
    own = nn.meta.unbox(module.variables) if issubclass(kind, _KINDS) else {}
    arrays = {name: values for collection in own.values() for name, values in collection.items()}
    return steps.called(module, _KINDS, kind, "/".join(module.path), arrays, call, args, kwargs)
