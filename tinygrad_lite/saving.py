"""Trees of arrays in files that hold no code: `.npz` and `.safetensors`.

The trick: arrays are stored under readable names, which nobody ever parses; beside them lies the
tree as JSON, in which {"array": name} stands for each of them. A flat dict of arrays needs no tree.
A file appears whole or not at all: it is written beside its place, synced, and renamed.
"""

from __future__ import annotations

import json
import os
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.lib import format as npy

from .tensor import Tensor

TREE = "tinygrad_lite"  # the name of the JSON
NUMBERS = ("I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "F16", "F32", "F64", "C64")
CODES = {code: np.dtype(f"<{code[0].lower()}{int(code[1:]) // 8}") for code in NUMBERS}
CODES |= {"BOOL": np.dtype(bool), "BF16": np.dtype("<u2")}
KINDS: dict[str, Any] = {"tuple": tuple, "dict": dict}
Arrays = dict[str, Any]


def save(path: str | os.PathLike[str], tree: Any) -> None:
    """Write a tree to a `.npz` or `.safetensors` file: there is the old one or the new, never half.

    A tree is made of dicts (with str and int keys), lists, tuples, None, bool, int, float, str, and
    numeric or boolean Tensors, NumPy arrays and scalars. A flat dict of arrays is stored under its
    own keys, for np.load and others to read. `.safetensors` needs an extra package, is always
    little-endian, and has no complex128 or longdouble.

    Raises ValueError for another suffix, TypeError with the place in the tree for other contents.

    >>> import os, tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "run.npz")
    ...     save(path, {"model": {"0.weight": np.ones(2)}, "rate": (0.1, 7)})
    ...     load(path)
    {'model': {'0.weight': array([1., 1.])}, 'rate': (0.1, 7)}
    """
    import zipfile  # it would be most of the time that importing this module takes

    package, arrays = _package(path), Arrays()
    encoded = _encode(tree, (), arrays, package)
    text = json.dumps(encoded)
    if package:
        content = package.numpy.save(arrays, {TREE: f"{TREE} {_checksum(text, arrays)} {text}"})
    elif encoded != {"dict": [[key, {"array": key}] for key in arrays]}:
        arrays[TREE] = np.frombuffer(text.encode(), np.uint8)
    place = os.path.realpath(os.fsdecode(path))  # a link stays, its target is replaced
    folder = os.path.dirname(place)
    temporary = os.path.join(folder, f".{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            if package:
                file.write(content)
            else:
                with zipfile.ZipFile(file, "w") as archive:
                    for name, array in arrays.items():
                        entry = zipfile.ZipInfo(name + ".npy")  # no date: equal trees, equal files
                        with archive.open(entry, "w", force_zip64=True) as out:
                            npy.write_array(out, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, place)
    except OSError as error:
        if not error.filename:
            raise
        # it names the file beside its place, of which the caller does not know
        raise type(error)(error.errno, error.strerror, os.fsdecode(path)) from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
    if os.name == "posix":  # elsewhere folders cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)  # the renaming, too, survives a power cut
        os.close(descriptor)


def load(path: str | os.PathLike[str]) -> Any:
    """Read what `save` wrote; of other programs' `.npz` and `.safetensors` files, a flat dict.

    Every array comes back as a new, writeable ndarray (bfloat16 as float32). Nothing in the file is
    ever run. Raises FileNotFoundError, or ValueError, which says what is wrong with the file.
    """
    package = _package(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} is not a file")
    with open(path, "rb") as file:
        try:
            text, arrays = _read_safetensors(file, package) if package else _read_npz(file)
            if text is None:
                return arrays

            def place(x: dict[str, Any]) -> Any:
                ((kind, value),) = x.items()
                if kind == "array" and value not in arrays:
                    raise ValueError(f"its tree names the array {value!r}, which is missing")
                return arrays.pop(value) if kind == "array" else KINDS[kind](value)

            tree = json.loads(text, object_hook=place)
            if arrays:
                raise ValueError(f"its tree has no place for the arrays {list(arrays)}")
            return tree
        except Exception as error:  # whatever bad bytes provoke in zipfile, NumPy, json, ...
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{path} is damaged, or not a file of this kind: {reason}") from error


def _package(path: Any) -> Any:
    """What its file needs: the package safetensors, or for .npz nothing."""
    suffix = os.path.splitext(os.fsdecode(path))[1]
    if suffix not in (".npz", ".safetensors"):
        raise ValueError(f"{path}: the name of the file must end in .npz or .safetensors")
    if suffix == ".npz":
        return None
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(f"for {path}, pip install 'tinygrad-lite[safetensors]'") from error
    return safetensors


def _encode(x: Any, path: tuple[Any, ...], arrays: Arrays, package: Any) -> Any:
    """The tree as JSON, with dicts as pairs, so that 0 and "0" differ; arrays go to `arrays`."""
    x = x.data if isinstance(x, Tensor) else x
    problem = type(x).__name__
    if x is None or type(x) in (bool, int, float, str):
        return x
    if type(x) in (list, tuple):
        items = [_encode(item, (*path, i), arrays, package) for i, item in enumerate(x)]
        return items if type(x) is list else {"tuple": items}
    if isinstance(x, dict):
        odd = [key for key in x if type(key) not in (str, int)]
        if not odd:
            return {"dict": [[k, _encode(v, (*path, k), arrays, package)] for k, v in x.items()]}
        problem = f"dict with the key {odd[0]!r}"
    elif type(x) in (np.ndarray, np.memmap) or isinstance(x, np.generic):
        little, problem = x.dtype.newbyteorder("<"), f"array of {x.dtype}"
        if little in CODES.values() if package else x.dtype.kind in "biufc":
            name = "/".join(map(str, path))[:1000]
            name = "".join(c if c.isprintable() and c != "\\" else "_" for c in name)
            while name in arrays or name in (TREE, "__metadata__"):
                name += "'"
            arrays[name] = np.asarray(x, little, order="C") if package else np.asarray(x)
            return {"array": name}
    where = "".join(f"[{json.dumps(key)}]" for key in path) or "the tree"
    raise TypeError(f"{where} is of type {problem}, which such a file cannot hold")


def _read_npz(file: Any) -> tuple[str | None, Arrays]:
    import zipfile

    arrays: Arrays = {}
    with zipfile.ZipFile(file) as archive:
        file.seek(-12 - len(archive.comment), os.SEEK_END)  # zipfile does not compare the number
        if int.from_bytes(file.read(2), "little") not in (len(archive.infolist()), 0xFFFF):
            raise ValueError("the archive has lost its directory")
        for info in archive.infolist():
            with archive.open(info) as entry:
                name = info.filename.removesuffix(".npy")
                arrays[name] = npy.read_array(entry, allow_pickle=False)
                if entry.read(1):  # reading to the end checks the CRC
                    raise ValueError(f"{info.filename} has more than an array")
    return (arrays.pop(TREE).tobytes().decode() if TREE in arrays else None), arrays


def _checksum(text: str, arrays: Arrays) -> str:
    """Of tree, names, types, shapes and values: .safetensors has none of its own."""
    crc = zlib.crc32(text.encode())
    for name, array in sorted(arrays.items()):
        crc = zlib.crc32(array, zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), crc))
    return str(crc)


def _read_safetensors(file: Any, package: Any) -> tuple[str | None, Arrays]:
    content, arrays = file.read(), Arrays()
    for name, entry in package.deserialize(content):
        if entry["dtype"] not in CODES:
            raise ValueError(f"{name} is of type {entry['dtype']}, which NumPy does not have")
        array = np.frombuffer(entry["data"], CODES[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":  # the upper half of a float32
            array = (array.astype("<u4") << 16).view("<f4")
        arrays[name] = array
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    for key, value in header.get("__metadata__", {}).items():
        if TREE in (key, value.split(" ")[0]):  # there twice: a flipped bit hides only one
            _, crc, text = value.split(" ", 2)
            if crc != _checksum(text, arrays):
                raise ValueError("its checksum is wrong")
            return text, arrays
    return None, arrays
