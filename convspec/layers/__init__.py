"""One layer, or a network of layers, explained and translated, without running it.

The input is a spec or a constructor's text; the output is the same layer in another framework with remarks, its facts
in numbers and sentences, pictures as SVG and as text, and the calculator. Standard library only: it also runs in a
browser.
"""

from convspec.layers import facts, kernel_orders, pictures, sentences
from convspec.layers.calculator import calculate
from convspec.layers.facts import FEATURES, constructor
from convspec.layers.messages import Explanation, explain
from convspec.layers.networks import (
    Mend,
    Mends,
    Network,
    NetworkCode,
    NetworkError,
    Row,
    find_mends,
    read_network,
    summarize,
    trace_live,
    write_network,
)
from convspec.layers.networks import table as network_table
from convspec.layers.pictures import text as drawing
from convspec.layers.remarks.port import NAMES, framework
from convspec.layers.translation import Translation, layer_of, layers_of, layout_of, translate

__all__ = [
    "FEATURES", "NAMES", "Explanation", "Mend", "Mends", "Network", "NetworkCode", "NetworkError", "Row", "Translation",
    "calculate", "constructor", "drawing", "explain", "facts", "find_mends", "framework", "kernel_orders", "layer_of",
    "layers_of", "layout_of", "network_table", "pictures", "read_network", "sentences", "summarize", "trace_live",
    "translate", "write_network",
]  # fmt: skip
