"""Data: what comes with the package, readers of well-known files, and batches of either.

Nothing is read before it is asked for, and nothing is downloaded unless `download=True` is passed.
"""

from .alice import alice as alice
from .digits import digits as digits
from .images import cifar10 as cifar10
from .images import fashion_mnist as fashion_mnist
from .images import mnist as mnist
from .images import read_idx as read_idx
from .loader import DataLoader as DataLoader
from .loader import Dataset as Dataset
from .loader import Subset as Subset
from .loader import TensorDataset as TensorDataset
from .loader import random_split as random_split
