"""The digits that come with the package, read on first use.

The one trick: a digit's pixels are whole numbers from 0 to 16, so `digits.npz` keeps them as bytes,
compressed; `digits.txt` beside it says whose they are.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

Part = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]

FILE = Path(__file__).with_name("digits.npz")
HELD_OUT = 360  # of 1,797: one in five


def digits() -> tuple[Part, Part]:
    """Real handwritten digits, split once and for all into training and held-out ones.

    Each image is a scanned digit of 32×32 black or white pixels, reduced to 8×8 by counting the ink
    in blocks of 4×4. These are the 1,797 images of scikit-learn's `load_digits`, divided by 16.

    The split is a permutation by NumPy's `RandomState(0)`, whose stream is frozen across versions:
    its first 360 are held out, 27 to 44 of each class. Nothing in the file tells who wrote what, so
    a held-out digit may be by a hand that was seen in training.

    Returns
    -------
    (train_images, train_labels), (test_images, test_labels)
        Images: float32 of shape (1437, 8, 8) and (360, 8, 8), the share of ink in each block, from
        0 (paper) to 1. Labels: int64 of shape (1437,) and (360,), from 0 to 9. The arrays are new
        at every call and may be written into.

    Notes
    -----
    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
    Learning Repository, 1998, https://doi.org/10.24432/C50P49. Licence: CC BY 4.0,
    https://creativecommons.org/licenses/by/4.0/.

    Examples
    --------
    >>> from tinygrad_lite.data import digits
    >>> (images, labels), (test_images, test_labels) = digits()
    >>> images.shape, images.dtype, test_labels.shape
    ((1437, 8, 8), dtype('float32'), (360,))
    >>> labels[0]
    np.int64(6)
    >>> for row in images[0]:
    ...     print("".join(" .:-=+*#%@"[int(9 * ink)] for ink in row).rstrip())
           +%.
          :@*
          #%
         .@*
         .@*::
         .%@@#+
          +@-.%-
           -%@@-
    """
    pixels, labels = _read()
    order = np.random.RandomState(0).permutation(len(labels))
    test, train = order[:HELD_OUT], order[HELD_OUT:]
    images, labels = pixels.astype(np.float32) / 16, labels.astype(np.int64)
    return (images[train], labels[train]), (images[test], labels[test])


@functools.cache
def _read() -> Part:
    with np.load(FILE, allow_pickle=False) as file:
        return file["pixels"], file["labels"]
