"""MNIST, Fashion-MNIST and CIFAR-10 from the files that their authors published.

The one trick: no file is believed. What a header declares is compared with the bytes that follow,
and pickles are never unpickled: their texts and numbers are read in order, and nothing can run.
"""

from __future__ import annotations

import gzip
import math
import os
import pickletools
import re
import shutil
import struct
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Pair = tuple[Any, Any]
Folder = str | os.PathLike[str]

SOURCES = {  # name: address, and the MD5 of each file there
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/", {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c"}),
    "fashion_mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310"}),
    "cifar10": ("https://www.cs.toronto.edu/~kriz/", {
        "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"}),
}  # fmt: skip
IDX = {"train": ("train-images", "train-labels"), "test": ("t10k-images", "t10k-labels")}
IDX_PATTERNS = "{}[-.]idx[13]-ubyte", "{}[-.]idx[13]-ubyte.gz"
IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
CIFAR = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
CIFAR_PATTERNS = "{}", "{}.bin", "cifar-10-batches-py/{}", "cifar-10-batches-bin/{}.bin"
CIFAR_BYTES, CIFAR_OPCODES = 2**26, 200_000  # at most; a real file has 31 MB, some 30,000 opcodes
OPCODES = (  # of such pickles
    "PROTO|STOP|MARK|NONE|NEWTRUE|NEWFALSE|BININT[12]?|LONG1|(SHORT_)?BINSTRING|BINUNICODE|"
    "EMPTY_(DICT|LIST|TUPLE)|TUPLE[123]?|APPENDS?|SETITEMS?|(LONG_)?BIN(PUT|GET)|GLOBAL|REDUCE|BUILD"
)
GLOBALS = r"numpy (ndarray|dtype)|numpy\._?core\.multiarray _reconstruct|_codecs encode"


def mnist(folder: Folder, part: str | None = None, *, download: bool = False) -> Pair:
    """The handwritten digits of Y. LeCun, C. Cortes and C. Burges: 60,000 and, to test, 10,000.

    Returns (train_images, train_labels), (test_images, test_labels), or with `part="train"` or
    `part="test"` that pair alone. Images: float32 of shape (N, 28, 28), from 0 to 1. Labels: int64
    of shape (N,), from 0 to 9.

    `folder` holds the published files (`train-images-idx3-ubyte.gz`, ...), as they are or unpacked.
    Missing ones raise FileNotFoundError, or are fetched with `download=True` (which needs
    `tinygrad-lite[download]`) and checked by their MD5; corrupt or mistaken ones raise ValueError.
    """
    return _load("mnist", Path(folder), part, download)


def fashion_mnist(folder: Folder, part: str | None = None, *, download: bool = False) -> Pair:
    """Zalando's pictures of clothes (H. Xiao et al., arXiv:1708.07747; MIT licence), as `mnist`.

    Classes: T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot.
    """
    return _load("fashion_mnist", Path(folder), part, download)


def cifar10(folder: Folder, part: str | None = None, *, download: bool = False) -> Pair:
    """A. Krizhevsky's photographs, 50,000 and, to test, 10,000: float32 of shape (N, 3, 32, 32).

    `folder` holds the Python or the binary version (`data_batch_1` or `data_batch_1.bin`, ...), or
    the folder `cifar-10-batches-py` or `-bin` with it. The rest is as for `mnist`.
    Classes: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.
    """
    return _load("cifar10", Path(folder), part, download)


def read_idx(path: Folder, *, limit: int = 2**30) -> Array:
    """The array in a file of the IDX format, plain or gzipped, in the machine's byte order.

    A file that is corrupt, or declares more than `limit` bytes, raises ValueError.
    """
    with open(path, "rb") as file:
        opened: Any = gzip.open if file.read(2) == b"\x1f\x8b" else open
    try:
        with opened(path, "rb") as file:
            start = file.read(4)
            if not re.fullmatch(rb"\0\0[\x08\x09\x0b-\x0e][\x01-\x08]", start):
                raise ValueError(
                    f"{path} is no IDX file: it starts with {start!r}, expected two zeros, a type "
                    f"(one of {list(IDX_TYPES)}) and the number of dimensions (1 to 8)"
                )
            dtype, ndim = np.dtype(IDX_TYPES[start[2]]), start[3]
            if len(sizes := file.read(4 * ndim)) < 4 * ndim:
                raise ValueError(f"{path} ends within its header of {ndim} dimensions")
            shape = struct.unpack(f">{ndim}I", sizes)
            expected, content = math.prod(shape) * dtype.itemsize, bytearray()
            if math.prod(max(n, 1) for n in shape) * dtype.itemsize > limit:
                raise ValueError(f"{path} declares {dtype} {shape}: over {limit:,} bytes")
            while chunk := file.read(min(2**20, expected + 1 - len(content))):
                content += chunk  # piece by piece: nothing is allocated because a header says so
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is corrupt gzip data: {error}") from error
    if len(content) != expected:
        found = "more" if len(content) > expected else f"{len(content):,}"
        raise ValueError(f"{path} declares {dtype} {shape}, {expected:,} bytes, but holds {found}")
    array = np.frombuffer(content, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _load(source: str, folder: Path, part: str | None, download: bool) -> Pair:
    if part is None:
        train = _load(source, folder, "train", download)
        return train, _load(source, folder, "test", download)
    if part not in IDX:
        raise ValueError(f'part must be "train", "test" or None (both), got {part!r}')
    paths = _find(source, folder, part, download)
    if source == "cifar10":
        batches = [_cifar_batch(path) for path in paths]
        images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        images = images.reshape(-1, 3, 32, 32)
    else:
        images, labels = (read_idx(path, limit=2**27) for path in paths)
        for path, array, tail in zip(paths, (images, labels), ((28, 28), ()), strict=True):
            found, wanted = f"{array.dtype} {array.shape}", f"uint8 {(len(images), *tail)}"
            if found != wanted:
                raise ValueError(f"{path} holds {found}, expected {wanted}")
        _check(paths[1], labels)
    return np.divide(images, 255, dtype=np.float32, order="C"), labels.astype(np.int64)


def _check(path: Path, labels: Array) -> None:
    if len(wrong := np.flatnonzero(labels > 9)):
        raise ValueError(f"{path}: label {wrong[0]} is {labels[wrong[0]]}, expected 0 to 9")


def _find(source: str, folder: Path, part: str, download: bool) -> list[Path]:
    address, hashes = SOURCES[source]
    names, patterns = (CIFAR, CIFAR_PATTERNS) if source == "cifar10" else (IDX, IDX_PATTERNS)
    paths: list[Path] = []
    missing: list[str] = []
    for name in names[part]:
        found = [path for p in patterns for path in folder.glob(p.format(name)) if path.is_file()]
        paths += found[:1]
        if not found:
            missing += [f for f in hashes if f.startswith(("cifar", name)) and f not in missing]
    if missing and not download:
        raise FileNotFoundError(
            f"{folder} lacks files of {source}, {part}: pass download=True, or put there "
            f'{" and ".join(missing)} from {address}; part="train" or "test" reads one part alone'
        )
    for file in missing:
        _fetch(address + file, hashes[file], folder)
    return _find(source, folder, part, False) if missing else paths


def _fetch(url: str, md5: str, folder: Path) -> None:
    """Download a file, check it, and put it, or what it packs, beside what is there already."""
    try:
        import pooch  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        raise ImportError("download=True needs pip install 'tinygrad-lite[download]'") from None
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        names = [url.rpartition("/")[2]]
        got = pooch.retrieve(url, f"md5:{md5}", fname="download", path=temporary)
        if not url.endswith(".tar.gz"):
            shutil.copyfile(got, Path(temporary, names[0]))  # pooch's is for its owner's eyes only
        else:
            names = [f"cifar-10-batches-py/{name}" for name in CIFAR["train"] + CIFAR["test"]]
            with tarfile.open(got) as tar:
                for member in tar:
                    if member.name in names and member.isreg() and member.size <= CIFAR_BYTES:
                        path, file = Path(temporary, member.name), tar.extractfile(member)
                        path.parent.mkdir(exist_ok=True)
                        path.write_bytes(file.read() if file else b"")
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            if Path(temporary, name).exists() and not (folder / name).exists():
                Path(temporary, name).rename(folder / name)


def _cifar_batch(path: Path) -> tuple[Array, Array]:
    """The pixels, uint8 of shape (N, 3072), and the labels in one file of either version."""
    if (size := path.stat().st_size) > CIFAR_BYTES:
        raise ValueError(f"{path} has {size:,} bytes, no file of CIFAR-10 over {CIFAR_BYTES:,}")
    content = path.read_bytes()
    if path.suffix != ".bin":
        try:
            pixels, labels = _pickled(content)
        except Exception as error:
            raise ValueError(f"{path} is no batch of CIFAR-10: {error}") from error
    elif content and len(content) % 3073 == 0:
        records = np.frombuffer(content, np.uint8).reshape(-1, 3073)
        pixels, labels = records[:, 1:], records[:, 0]
    else:
        raise ValueError(f"{path} has {size:,} bytes, expected whole records of 3,073")
    _check(path, labels)
    return pixels, labels


def _pickled(content: bytes) -> tuple[Array, Array]:
    """The same from a pickle, whose texts and numbers are taken in order, nothing else being done.

    A batch is a dict, so what follows one of its keys belongs to that; its array is known by the
    order of the values in it. Any opcode or global that such a file does not need is refused.
    """
    fields: dict[str, list[Any]] = {"data": [], "labels": [], "filenames": [], "batch_label": []}
    values: list[Any] = []
    for i, (opcode, value, _) in enumerate(pickletools.genops(content)):
        if opcode.name == "GLOBAL" and not re.fullmatch(GLOBALS, str(value)):
            raise ValueError(f"{str(value).replace(' ', '.')} would run code: refused")
        if not re.fullmatch(OPCODES, opcode.name) or i > CIFAR_OPCODES:
            raise ValueError(f"opcode {i}, {opcode.name}, is none of its: refused")
        if opcode.name in ("NEWTRUE", "NEWFALSE"):
            values.append(opcode.name == "NEWTRUE")
        elif value in fields:
            values = fields[value]
        elif re.match("BIN(INT|S|U)|LONG1|SHORT", opcode.name) and value != "latin1":
            values.append(value)  # "latin1" is how Python 3 writes bytes
    match fields["data"]:
        case [0, "b", 1, int(n), 3072, "u1", *_, 0 | 1 as by_column, str(raw)]:
            pixels = np.frombuffer(raw.encode("latin-1"), np.uint8)
            pixels = pixels.reshape(n, 3072, order="F" if by_column else "C")
        case _:
            raise ValueError("no `data` of uint8 and shape (N, 3072)")
    if len(fields["labels"]) != n or any(type(label) is not int for label in fields["labels"]):
        raise ValueError(f"{n} images, but not as many `labels` that are numbers")
    return pixels, np.array(fields["labels"], np.uint8)
