"""The block catalogue: every block's name, parameters, formula and properties, as plain data.

One entry in `activation`, `pooling`, `normalization` or `shape` adds a block to the expressions, to ``ListBlocks``, to
the command line and to the docs; its meaning in ONNX is one emitter in ``layertap_server.blocks``. Every block is a
function here too: ``blocks.max_pool(3, stride=2)`` is the `Block` that ``max_pool(3, stride=2)`` parses to.
"""

from layertap.blocks import constructors
from layertap.blocks.catalogue import CATALOGUE, bind, find, get, get_initial_weights
from layertap.blocks.constructors import *  # noqa: F403 - its names are the blocks
from layertap.blocks.spec import BlockKind, BlockSpec, BoundBlock, Parameter, ParameterType

__all__ = ["CATALOGUE", "BlockKind", "BlockSpec", "BoundBlock", "Parameter", "ParameterType", "bind", "find", "get"]
__all__ += ["get_initial_weights"]
__all__ += constructors.__all__
