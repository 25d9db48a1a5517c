"""Inference of layouts: which axes of each layer are batch, channels and positions.

The roles of the axes come from how a tensor is made and used. A convolution's channels are axis 1; a product with a
weight sums over channels; a normalization of the last axis normalizes channels; a Transpose moves roles, and a Reshape
splits and merges them. What cannot be derived is not known, and its layout is `Layout.OTHER`: nothing follows from the
number of axes alone, except that two axes are a vector.
"""

from layertap_server.graph.layouts.axes import Axes, Axis, Shape, layout_of, roles_of, tokens_of
from layertap_server.graph.layouts.infer import axes_of

__all__ = ["Axes", "Axis", "Shape", "axes_of", "layout_of", "roles_of", "tokens_of"]
