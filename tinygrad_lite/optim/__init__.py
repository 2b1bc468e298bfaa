"""Optimisers, gradient clipping and learning rate schedules, as PyTorch has them."""

from .optimizers import SGD as SGD
from .optimizers import Adagrad as Adagrad
from .optimizers import Adam as Adam
from .optimizers import AdamW as AdamW
from .optimizers import Optimizer as Optimizer
from .optimizers import RMSprop as RMSprop
from .optimizers import clip_grad_norm_ as clip_grad_norm_
from .optimizers import clip_grad_value_ as clip_grad_value_
from .schedules import CosineAnnealingLR as CosineAnnealingLR
from .schedules import LambdaLR as LambdaLR
from .schedules import OneCycleLR as OneCycleLR
from .schedules import ReduceLROnPlateau as ReduceLROnPlateau
from .schedules import Scheduler as Scheduler
from .schedules import StepLR as StepLR
