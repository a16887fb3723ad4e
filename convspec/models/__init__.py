"""Whole models: find their convolutions, compare two of them, move weights, verify an exported graph.

In go models of any framework, or files of them; out come a :class:`Comparison`, a :class:`PortReport` or a
:class:`VerifyReport`. ``matching`` pairs layers, ``comparison`` judges pairs, ``porting`` moves weights,
``verification`` audits ONNX graphs, ``files`` reads model files in a child process.
"""

from typing import TYPE_CHECKING

from convspec.models import arguments, text_table
from convspec.models.comparison import common_rank
from convspec.models.comparison.common_rank import Form
from convspec.models.comparison.layer_check import conv as check_layer
from convspec.models.comparison.results import Comparison, compare
from convspec.models.files.model_file import ModelFile
from convspec.models.find_adapter import convs, owner
from convspec.models.matching import split_layers, weight_differences
from convspec.models.matching.kernels import Layer, Normalised, pairs
from convspec.models.matching.layers import spec_differences
from convspec.models.matching.split_layers import Piece
from convspec.models.matching.weight_differences import Difference
from convspec.models.porting.layer import port
from convspec.models.porting.weights import PortReport, port_weights
from convspec.models.verification.report import Node, VerifyReport
from convspec.models.verification.verifier import verify

if TYPE_CHECKING:
    from convspec.models.comparison.results import Inputs as Inputs
    from convspec.models.run_model import Array as Array

__all__ = [
    "Comparison",
    "Difference",
    "Form",
    "Layer",
    "ModelFile",
    "Node",
    "Normalised",
    "Piece",
    "PortReport",
    "VerifyReport",
    "arguments",
    "check_layer",
    "common_rank",
    "compare",
    "convs",
    "owner",
    "pairs",
    "port",
    "port_weights",
    "spec_differences",
    "split_layers",
    "text_table",
    "verify",
    "weight_differences",
]
