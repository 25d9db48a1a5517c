"""Configured models: networks that are written as blocks in ``source.layers`` of ``model.yaml``.

`read_network` parses the file to a `Network` and reports errors with their line. `build` compiles a `Network` to an
ONNX model, with the emitters that heads use too. A composite block stands for several layers.
"""

from layertap_server.models.network.emit import build
from layertap_server.models.network.layers import Network
from layertap_server.models.network.network import NETWORK_KEYS, read_network
from layertap_server.models.network.weights import load_weights

__all__ = ["NETWORK_KEYS", "Network", "build", "load_weights", "read_network"]
