"""Whole networks: read from their text, with the shapes, the cost and the mistakes of every layer.

In goes the text of a network as people write or print it, out comes a :class:`Network`, whose ``shapes`` are the rows
of the table that people know. The words of a framework come from its adapter. Standard library only.
"""

from convspec.layers.networks.network import Network, NetworkError, Row, Trace

__all__ = ["Network", "NetworkError", "Row", "Trace"]
