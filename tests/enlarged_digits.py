"""The embedded digits in MNIST's files and size: for demos/mnist_lenet.py where MNIST is missing."""

import gzip
import struct
import sys
from pathlib import Path

import numpy as np

from tinygrad_lite.data import digits


def write(folder):
    folder.mkdir(parents=True)
    for part, (images, labels) in zip(("train", "t10k"), digits(), strict=True):
        large = np.pad(np.kron(images, np.ones((3, 3))), ((0, 0), (2, 2), (2, 2)))
        for name, array in (
            ("images-idx3", (255 * large).astype(np.uint8)),
            ("labels-idx1", labels),
        ):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            content = gzip.compress(header + array.astype(np.uint8).tobytes())
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(content)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
