"""Compare a graph with its source: another graph, or a model of any framework that another process runs.

In go the graph's convolutions and what they read and wrote; out come, as messages to a callable, the source layer of
each node, the differences of both, and the first node that diverges.
"""

from convspec_onnx.source.compare import SourceComparison
from convspec_onnx.source.match_nodes import layer_of
from convspec_onnx.source.run_source import Ask

__all__ = ["Ask", "SourceComparison", "layer_of"]
