"""tinygrad_lite: automatic differentiation on NumPy, small enough to read in one sitting."""

import importlib

from . import calculus as _calculus  # noqa: F401 (registers functions)
from . import convolution as convolution
from . import functional as functional
from . import linear_algebra as _linear_algebra  # noqa: F401 (registers functions)
from . import losses as losses
from . import nn as nn
from . import numpy_functions as _numpy_functions  # noqa: F401 (registers functions)
from . import optim as optim
from . import pickling as _pickling  # noqa: F401 (copies and pickles graphs)
from . import pooling as pooling
from . import products as _products  # noqa: F401 (registers functions)
from .backward import GraphFreedError as GraphFreedError
from .check import NonFiniteError as NonFiniteError
from .check import detect_anomaly as detect_anomaly
from .check import gradcheck as gradcheck
from .draw import draw as draw
from .draw import explore as explore
from .explain import backward_steps as backward_steps
from .explain import explain as explain
from .mode import enable_grad as enable_grad
from .mode import no_grad as no_grad
from .mode import scope as scope
from .numpy_functions import index_add as index_add
from .numpy_functions import index_update as index_update
from .numpy_functions import logsumexp as logsumexp
from .primitives import primitive as primitive
from .rng import get_rng_state as get_rng_state
from .rng import manual_seed as manual_seed
from .rng import set_rng_state as set_rng_state
from .saving import load as load
from .saving import save as save
from .tensor import Node as Node
from .tensor import Tensor as Tensor
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


def __getattr__(name: str) -> object:
    """Load `tg.data` and `tg.compile` when they are first asked for."""
    if name == "data":
        return importlib.import_module(".data", __name__)
    if name == "compile":
        return importlib.import_module(".compiler", __name__).compile
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
