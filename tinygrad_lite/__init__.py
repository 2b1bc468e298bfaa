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
from .transforms import checkpoint as checkpoint
from .transforms import elementwise_grad as elementwise_grad
from .transforms import grad as grad
from .transforms import hessian as hessian
from .transforms import hvp as hvp
from .transforms import jacobian as jacobian
from .transforms import jvp as jvp
from .transforms import value_and_grad as value_and_grad
from .transforms import vjp as vjp

__version__ = "0.1.0"
