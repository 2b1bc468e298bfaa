"""tinygrad_lite: automatic differentiation on NumPy, small enough to read in one sitting."""

from .backward import GraphFreedError as GraphFreedError
from .primitives import index_add as index_add
from .primitives import index_update as index_update
from .primitives import logsumexp as logsumexp
from .primitives import primitive as primitive
from .tensor import Node as Node
from .tensor import Tensor as Tensor
from .tensor import enable_grad as enable_grad
from .tensor import no_grad as no_grad
from .tensor import tensor as tensor

__version__ = "0.1.0"
