"""Implement every block from its formula in float64 NumPy, without sharing code with the emitters.

Arrays are N×C×H×W unless a function says otherwise.
"""

from collections.abc import Callable

from layertap.types import Array
from tests.references.activation import *  # noqa: F403
from tests.references.convolution import *  # noqa: F403
from tests.references.loss import *  # noqa: F403
from tests.references.normalization import *  # noqa: F403
from tests.references.pooling import *  # noqa: F403
from tests.references.shape import *  # noqa: F403

Reference = Callable[[Array], Array]
