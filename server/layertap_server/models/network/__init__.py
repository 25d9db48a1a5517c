"""``source.layers`` of ``model.yaml`` -> an ONNX model: networks that are written as blocks.

`read_network` makes a `Network` of the file, which says what is wrong with it by line; `build` emits it with the same
emitters that serve heads. A composite block is no more than layers that are written for the user.
"""

from layertap_server.models.network.emit import build
from layertap_server.models.network.layers import Network
from layertap_server.models.network.network import NETWORK_KEYS, read_network
from layertap_server.models.network.weights import load_weights

__all__ = ["NETWORK_KEYS", "Network", "build", "load_weights", "read_network"]
