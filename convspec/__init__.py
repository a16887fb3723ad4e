"""A backend-neutral convolution layer spec and conformance test kit."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convspec import reference as reference
    from convspec.conformance import Cluster as Cluster
    from convspec.conformance import check as check
    from convspec.conformance import replay as replay
    from convspec.conformance import resume as resume
    from convspec.contract import adapter as adapter
    from convspec.contract import adapters as adapters
    from convspec.corpora import Case as Case
    from convspec.diagnosis import diagnose as diagnose
    from convspec.errors import ConvspecError as ConvspecError
    from convspec.errors import ExecutorError as ExecutorError
    from convspec.errors import FrameworkAbsent as FrameworkAbsent
    from convspec.errors import JournalError as JournalError
    from convspec.errors import ParamsError as ParamsError
    from convspec.errors import PlacementError as PlacementError
    from convspec.errors import RecordError as RecordError
    from convspec.errors import RequestError as RequestError
    from convspec.errors import ShapeError as ShapeError
    from convspec.errors import SpecError as SpecError
    from convspec.errors import UnsupportedError as UnsupportedError
    from convspec.layers import Network as Network
    from convspec.layers import explain as explain
    from convspec.layers import translate as translate
    from convspec.models import ModelFile as ModelFile
    from convspec.models import compare as compare
    from convspec.models import convs as convs
    from convspec.models import judge as judge
    from convspec.models import match_weights as match_weights
    from convspec.models import port as port
    from convspec.models import port_weights as port_weights
    from convspec.models import verify as verify
    from convspec.spec import Chain as Chain
    from convspec.spec import ConvParams as ConvParams
    from convspec.spec import ConvSpec as ConvSpec
    from convspec.spec import QuantSpec as QuantSpec

__version__ = "0.2.0"

_FACES = {
    "conformance": ("Cluster", "check", "replay", "resume"),
    "contract": ("adapter", "adapters"),
    "corpora": ("Case",),
    "diagnosis": ("diagnose",),
    "errors": (
        "ConvspecError",
        "ExecutorError",
        "FrameworkAbsent",
        "JournalError",
        "ParamsError",
        "PlacementError",
        "RecordError",
        "RequestError",
        "ShapeError",
        "SpecError",
        "UnsupportedError",
    ),
    "layers": ("Network", "explain", "translate"),
    "models": ("ModelFile", "compare", "convs", "judge", "match_weights", "port", "port_weights", "verify"),
    "spec": ("Chain", "ConvParams", "ConvSpec", "QuantSpec"),
}
_HOME = {name: face for face, names in _FACES.items() for name in names}

__all__ = ["reference", *sorted(_HOME)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name == "reference":
        return importlib.import_module("convspec.reference")
    if name in _HOME:
        value = getattr(importlib.import_module(f"convspec.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'convspec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
