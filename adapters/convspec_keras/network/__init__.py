"""The words in which Keras' users write networks, and the summaries that Keras prints. Standard library only."""

from convspec_keras.network.summary import read_summary
from convspec_keras.network.vocabulary import VOCABULARY

__all__ = ["VOCABULARY", "read_summary"]
