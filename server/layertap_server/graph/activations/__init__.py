"""Activations of a graph, as one operator or as several nodes."""

from layertap_server.graph.activations.find import Activation, activations_of

__all__ = ["Activation", "activations_of"]
