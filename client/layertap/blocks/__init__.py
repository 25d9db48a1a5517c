"""The block catalogue: each block's name, parameters, formula and properties, as plain data.

An entry in `activation`, `pooling`, `normalization`, `convolution` or `shape` adds a block to the expressions, to
``ListBlocks``, to the command line and to the docs; an emitter in ``layertap_server.blocks`` implements it in ONNX.
Every block is also a function here: ``blocks.max_pool(3, stride=2)`` returns the `Block` that the expression
``max_pool(3, stride=2)`` is parsed to.
"""

from layertap.blocks import constructors
from layertap.blocks.catalogue import CATALOGUE, bind, find, get, get_initial_weights
from layertap.blocks.constructors import *  # noqa: F403 - one function per block
from layertap.blocks.parameter import Parameter, ParameterType
from layertap.blocks.spec import BlockKind, BlockSpec, BoundBlock

__all__ = ["CATALOGUE", "BlockKind", "BlockSpec", "BoundBlock", "Parameter", "ParameterType", "bind", "find", "get"]
__all__ += ["get_initial_weights"]
__all__ += constructors.__all__
