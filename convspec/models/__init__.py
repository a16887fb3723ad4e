"""Whole models: find their convolutions, compare two of them, move weights, verify an exported graph.

In go models of any framework, or files of them; out come a :class:`Comparison`, a :class:`PortReport` or a
:class:`VerifyReport`. ``matching`` pairs layers, ``comparison`` judges pairs, ``porting`` moves weights, ``judging``
decides on ports of unknown origin, ``verification`` audits ONNX graphs, ``files`` reads model files in a child process,
``weight_files`` needs no model.
"""

from convspec.models import arguments, text_table
from convspec.models.comparison import common_rank
from convspec.models.comparison.layer_check import check_layer
from convspec.models.comparison.results import Comparison
from convspec.models.comparison.run_both import Inputs as Inputs
from convspec.models.comparison.run_both import compare
from convspec.models.files.messages import unpack
from convspec.models.files.model_file import ModelFile
from convspec.models.judging.deciding import judge
from convspec.models.judging.judgement import Judgement
from convspec.models.matching import rounding, split_layers
from convspec.models.matching.differences import (
    Difference,
    array_differences,
    field_differences,
    layer_differences,
    nearest_stages,
    permuted_kernels,
    spec_differences,
    weight_differences,
)
from convspec.models.matching.kernels import BatchNorm, Layer, fold, grouped_kernel, pair_layers
from convspec.models.porting import PortReport, port, port_weights
from convspec.models.run_model import adapter_for, convs
from convspec.models.translation import ModelTranslation, translate_model
from convspec.models.verification.report import Node, VerifyReport
from convspec.models.verification.source_run import SourceRun, match_layout, read_run
from convspec.models.verification.verifier import verify, verify_and_repair
from convspec.models.weight_files import WeightMatch, WeightMatches, match_weights
from convspec.spec import Array as Array

__all__ = [
    "BatchNorm", "Comparison", "Difference", "Judgement", "Layer", "ModelFile", "ModelTranslation", "Node",
    "PortReport", "SourceRun", "VerifyReport", "WeightMatch", "WeightMatches", "adapter_for", "arguments",
    "array_differences", "check_layer", "common_rank", "compare", "convs", "field_differences", "fold",
    "grouped_kernel", "judge", "layer_differences", "match_layout", "match_weights", "nearest_stages",
    "pair_layers", "permuted_kernels", "port", "port_weights", "read_run", "rounding", "spec_differences",
    "split_layers", "text_table", "translate_model", "unpack", "verify", "verify_and_repair", "weight_differences",
]  # fmt: skip
