"""A backend-neutral convolution layer spec and conformance test kit."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convspec import reference as reference
    from convspec.cases import Case as Case
    from convspec.chains import Chain as Chain
    from convspec.conformance.cluster import Cluster as Cluster
    from convspec.conformance.replaying import replay as replay
    from convspec.conformance.runner import check as check
    from convspec.conformance.runner import resume as resume
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
    from convspec.models.audit import verify as verify
    from convspec.models.comparison import compare as compare
    from convspec.models.files import ModelFile as ModelFile
    from convspec.models.finding import convs as convs
    from convspec.models.porting import port as port
    from convspec.models.weights import port_weights as port_weights
    from convspec.parameters import ConvParams as ConvParams
    from convspec.registry import adapter as adapter
    from convspec.registry import adapters as adapters
    from convspec.spec import ConvSpec as ConvSpec
    from convspec.translation import translate as translate

__version__ = "0.1.0"

_HOME = {
    "Case": "cases",
    "Chain": "chains",
    "Cluster": "conformance.cluster",
    "ConvParams": "parameters",
    "ModelFile": "models.files",
    "ConvSpec": "spec",
    "adapter": "registry",
    "adapters": "registry",
    "check": "conformance.runner",
    "replay": "conformance.replaying",
    "resume": "conformance.runner",
    "compare": "models.comparison",
    "port_weights": "models.weights",
    "verify": "models.audit",
    "convs": "models.finding",
    "port": "models.porting",
    "translate": "translation",
    "diagnose": "diagnosis",
    **dict.fromkeys(
        (
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
        "errors",
    ),
}

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
