"""Whole networks: read from their text, with the shapes, the cost and the mistakes of every layer.

In goes the text of a network as people write or print it, out comes a :class:`Network`, whose ``shapes`` are the rows
of the table that people know. The words of a framework come from its adapter. Standard library only.
"""

from convspec.layers.networks.mends import Mend, Mends, find_mends
from convspec.layers.networks.network import Network, NetworkError, Row, Trace
from convspec.layers.networks.summary import summarize

__all__ = ["Mend", "Mends", "Network", "NetworkError", "Row", "Trace", "find_mends", "summarize"]
