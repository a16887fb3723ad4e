"""Whole networks: read from their text, with the shapes, the cost and the mistakes of every layer.

In goes the text of a network as people write or print it, out comes a :class:`Network`, whose ``shapes`` are the rows
of the table that people know. The words of a framework come from its adapter. Standard library only.
"""

from convspec.layers.networks import table
from convspec.layers.networks.live import trace_live
from convspec.layers.networks.mends import Mend, Mends, find_mends
from convspec.layers.networks.network import Network, read_network
from convspec.layers.networks.rows import NetworkError, Row, Trace
from convspec.layers.networks.summary import summarize
from convspec.layers.networks.writing import NetworkCode, write_network

__all__ = [
    "Mend", "Mends", "Network", "NetworkCode", "NetworkError", "Row", "Trace", "find_mends", "read_network",
    "summarize", "table", "trace_live", "write_network",
]  # fmt: skip
