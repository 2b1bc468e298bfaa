"""Batches, and the readers of well-known files: right on good files, refusing on bad ones.

No file of those is in the repository: the tests write their own. Where the real ones of MNIST are
at hand (in TINYGRAD_LITE_DATA or ../shared/data/mnist), they are read too.
"""

import contextlib
import functools
import gc
import gzip
import hashlib
import http.server
import io
import os
import pickle
import struct
import sys
import tarfile
import threading
import time
import traceback
import zlib
from pathlib import Path

import numpy as np
import pytest

import tinygrad_lite as tg
from tinygrad_lite.data import (
    DataLoader,
    Dataset,
    Subset,
    TensorDataset,
    cifar10,
    fashion_mnist,
    images,
    mnist,
    random_split,
    read_idx,
)

RNG = np.random.default_rng


# Datasets


class Squares(Dataset):
    """Items made one by one; `fails` at one of them, `wait` seconds for each."""

    def __init__(self, n, make=lambda i: (np.full(3, i * i, np.float32), i), fails=None, wait=0):
        self.n, self.make, self.fails, self.wait, self.asked = n, make, fails, wait, []

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.asked.append(i)
        time.sleep(self.wait)
        if i == self.fails:
            raise KeyError(f"item {i} is broken")
        return self.make(i)


def arrays(n=10):
    return TensorDataset(np.arange(3 * n, dtype=np.float32).reshape(n, 3), np.arange(n))


def test_datasets_index_like_their_arrays():
    data = arrays()
    x, y = data[4]
    assert (x.tolist(), y) == ([12, 13, 14], 4)
    part = Subset(data, [7, -1, 2])
    assert len(part) == 3
    assert [int(part[i][1]) for i in range(3)] == [7, 9, 2]
    assert part[[2, 0]][1].tolist() == [2, 7]
    assert Subset(part, [1])[0][1] == 9
    assert len(Subset(data, [])) == 0
    assert Subset(list("abc"), [2])[0] == "c"
    items = Squares(9)
    list(DataLoader(Subset(items, [3, 8]), 2))
    assert items.asked == [3, 8]
    assert {type(i) for i in items.asked} == {int}


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: TensorDataset(), ValueError, r"equal first axes, got \[\]"),
        (lambda: TensorDataset(np.ones((3, 2)), np.ones(4)), ValueError, r"\(3, 2\), \(4,\)"),
        (lambda: TensorDataset(np.ones(3), 2.0), ValueError, r"\(3,\), \(\)"),
        (lambda: Subset(arrays(), [0, 10]), IndexError, "index 10 is out of range for 10"),
        (lambda: Subset(arrays(), [-11]), IndexError, "index -11"),
        (lambda: Subset(arrays(), [1.0]), TypeError, "float64"),
        (lambda: Subset(arrays(), np.ones(10, bool)), TypeError, "bool"),
        (lambda: Subset(arrays(), [[1]]), TypeError, r"\(1, 1\)"),
        (lambda: random_split(arrays(), [3, 6]), ValueError, r"counts with sum 10 .*\[3, 6\]"),
        (lambda: random_split(arrays(), [11, -1]), ValueError, "lengths"),
        (lambda: random_split(arrays(), [0.5, 0.4]), ValueError, "fractions with sum 1"),
        (lambda: random_split(arrays(), [1.5, -0.5]), ValueError, "lengths"),
        (lambda: random_split(arrays(2), [0.4, 0.4]), ValueError, "lengths"),
        (lambda: random_split(arrays(), []), ValueError, "lengths"),
        (lambda: random_split(arrays(), [5, 5], rng=0), TypeError, "Generator"),
        (lambda: DataLoader(arrays(), 0), ValueError, "batch_size must be at least 1, got 0"),
        (lambda: DataLoader(arrays(), -3), ValueError, "batch_size must be at least 1"),
        (lambda: DataLoader(arrays(), 2.0), TypeError, "batch_size must be an int, got 2.0"),
        (lambda: DataLoader(arrays(), True), TypeError, "batch_size must be an int"),
        (lambda: DataLoader(arrays(), prefetch=-1), ValueError, "prefetch must be at least 0"),
        (lambda: DataLoader(arrays(), prefetch=None), TypeError, "prefetch must be an int"),
        (lambda: DataLoader(iter([1])), TypeError, "list_iterator has no __len__"),
        (lambda: DataLoader([]), ValueError, "empty"),
        (lambda: DataLoader(arrays(0)), ValueError, "empty"),
        (lambda: DataLoader(arrays(), rng=np.random.RandomState(0)), TypeError, "Generator"),
    ],
)
def test_bad_arguments(make, error, match):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize(
    ("n", "lengths"),
    [
        (10, [3, 7]), (10, [10]), (10, [0, 10]), (10, [0.3, 0.7]), (100, [0.29, 0.71]),
        (11, [0.5, 0.5]), (10, [0.25, 0.25, 0.5]), (7, [0.1] * 10), (3, [1.0]),
        (1797, [0.8, 0.1, 0.1]), (5, [0.0, 1.0]), (np.int64(6), [np.int64(2), np.int64(4)]),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Length of split")  # PyTorch's, of an empty part
def test_random_split(n, lengths):
    torch = pytest.importorskip("torch")
    parts = random_split(arrays(n), lengths, rng=RNG(0))
    theirs = torch.utils.data.random_split(range(n), lengths)
    assert [len(p) for p in parts] == [len(p) for p in theirs]
    assert sorted(i for p in parts for i in p.indices) == list(range(n))
    again = random_split(arrays(n), lengths, rng=RNG(0))
    assert all(np.array_equal(p.indices, q.indices) for p, q in zip(parts, again, strict=True))
    tg.manual_seed(3)
    first = random_split(arrays(n), lengths)
    tg.manual_seed(3)
    again = random_split(arrays(n), lengths)
    assert all(np.array_equal(p.indices, q.indices) for p, q in zip(first, again, strict=True))


# DataLoader


def same(a, b):
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a.dtype == b.dtype and np.array_equal(a, b)


@pytest.mark.parametrize("prefetch", [0, 1, 3, 50])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("n", "size"), [(10, 1), (10, 3), (10, 5), (10, 10), (10, 12), (1, 1)])
def test_batches(n, size, drop_last, prefetch):
    """The same sizes as PyTorch's; fast path, subset of it and item path all alike."""
    torch = pytest.importorskip("torch")
    options = {"drop_last": drop_last, "prefetch": prefetch}
    whole = np.arange(2 * n)
    doubled = TensorDataset(np.repeat(arrays(n).arrays[0], 2, 0), whole // 2)
    for data in (
        arrays(n),
        Subset(doubled, whole[::2]),
        Subset(Subset(doubled, whole[::-1]), whole[::-2]),
        Squares(n, lambda i: arrays(n)[i]),
    ):
        loader = DataLoader(data, size, **options)
        batches = list(loader)
        theirs = torch.utils.data.DataLoader(range(n), size, drop_last=drop_last)
        theirs = [z.numpy() for z in theirs]
        assert len(loader) == len(batches) == len(theirs)
        for (x, y), z in zip(batches, theirs, strict=True):
            assert y.tolist() == z.tolist()
            assert (x.dtype, x.shape) == (np.float32, (len(z), 3))
            assert np.array_equal(x, np.arange(3 * n).reshape(n, 3)[z])
            x[:] = -1  # a copy
        assert [x.tolist() for x, _ in loader] == [arrays(n)[z][0].tolist() for z in theirs]


@pytest.mark.parametrize(
    ("make", "batch"),
    [
        (lambda i: i, np.array([0, 1, 2])),
        (lambda i: i / 2, np.array([0, 0.5, 1])),
        (lambda i: np.float32(i), np.arange(3, dtype=np.float32)),
        (lambda i: [i, 1], np.array([[0, 1], [1, 1], [2, 1]])),
        (lambda i: i > 1, np.array([False, False, True])),
        (lambda i: (i, i), (np.arange(3), np.arange(3))),
        (lambda i: (i,), (np.arange(3),)),
        (lambda i: {"x": i, "y": [i]}, {"x": np.arange(3), "y": np.arange(3)[:, None]}),
        (lambda i: ({"x": (i, i)}, i), ({"x": (np.arange(3), np.arange(3))}, np.arange(3))),
        (lambda i: {"ab"[(i + j) % 2]: 0 for j in (0, 1)}, {"a": np.zeros(3, int), "b": np.zeros(3, int)}),
        (lambda i: "abc"[i], np.array(["a", "b", "c"])),
        (lambda i: tg.tensor([float(i)]), np.arange(3.0)[:, None]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefetch", [0, 2])
def test_items_become_arrays(make, batch, prefetch):
    (found,) = DataLoader(Squares(3, make), 3, prefetch=prefetch)
    assert same(found, batch)


def test_arrays_and_lists_are_datasets():
    for data in (np.eye(3), list(np.eye(3))):
        (batch,) = DataLoader(data, 5)
        assert np.array_equal(batch, np.eye(3))
        batch[:] = 7
        assert np.array_equal(data[0], [1, 0, 0])


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda i: np.ones(2 + i // 5), ValueError, r"item 5 has \(3,\), item 4 has \(2,\)"),
        (lambda i: (1, np.ones((2, 2 + i // 5))), ValueError, r"item 5 has \(2, 3\), item 4 has"),
        (lambda i: {"x": np.ones(2 + i // 5)}, ValueError, r"item 5 has \(3,\)"),
        (lambda i: (1,) * (2 + i // 5), ValueError, "item 5 has 3, item 4 has 2"),
        (lambda i: {"x": 1} if i < 5 else {"x": 1, "y": 2}, ValueError, "item 5 has {.*'y'"),
        (lambda i: {"x": 1} if i < 5 else (1,), ValueError, "item 5 has 1, item 4 has {'x'}"),
        (lambda i: None, TypeError, "NoneType items .* collate_fn"),
        (lambda i: tg.tensor([1.0], requires_grad=True), TypeError, "detach"),
    ],
)
@pytest.mark.parametrize("prefetch", [0, 2])
def test_items_that_do_not_fit_together(make, error, match, prefetch):
    with pytest.raises(error, match=match):
        list(DataLoader(Squares(8, make), 4, prefetch=prefetch))
    (batch,) = DataLoader(Squares(8, make), 8, collate_fn=lambda items: items)
    assert len(batch) == 8


def test_collate_fn_gets_the_items():
    loader = DataLoader(arrays(5), 2, collate_fn=lambda items: [int(y) for _, y in items])
    assert list(loader) == [[0, 1], [2, 3], [4]]
    loader = DataLoader(Subset(arrays(5), [4, 3]), 2, collate_fn=len)
    assert list(loader) == [2]


def test_own_getitem_of_a_subclass_is_used():
    """The fast path must not overlook an augmentation."""

    class Doubled(TensorDataset):
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return 2 * x if y >= 0 else x, y  # of one item, not of many

    class Shifted(Subset):
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return x + 1, y

    data = Doubled(*arrays(4).arrays)
    for loader in (DataLoader(data, 4), DataLoader(Subset(data, range(4)), 4)):
        assert np.array_equal(next(iter(loader))[0], 2 * data.arrays[0])
    ((x, _),) = DataLoader(Shifted(arrays(4), range(4)), 4)
    assert np.array_equal(x, data.arrays[0] + 1)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_shuffling(prefetch):
    def epochs(n=3, **options):
        loader = DataLoader(arrays(50), 8, shuffle=True, prefetch=prefetch, **options)
        return [[y.tolist() for _, y in loader] for _ in range(n)]

    first = epochs(rng=RNG(1))
    assert all(sorted(i for batch in e for i in batch) == list(range(50)) for e in first)
    assert len({str(e) for e in first}) == 3
    assert epochs(rng=RNG(1)) == first != epochs(rng=RNG(2))
    tg.manual_seed(5)
    package = epochs()
    tg.manual_seed(5)
    assert epochs() == package != epochs()
    before = tg.manual_seed(5).bit_generator.state
    epochs(rng=RNG(1))
    list(DataLoader(arrays(), 3))
    assert before == tg.manual_seed(5).bit_generator.state
    state = RNG(0)
    iter(DataLoader(arrays(), shuffle=True, rng=state))  # the order is drawn here, in this thread
    assert state.bit_generator.state != RNG(0).bit_generator.state


def test_rows_stay_together_when_shuffled():
    for data in (arrays(50), Squares(50, lambda i: arrays(50)[i])):
        for x, y in DataLoader(data, 7, shuffle=True):
            assert np.array_equal(x[:, 0], 3 * y)


# Prefetching


@contextlib.contextmanager
def no_thread_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_prefetching_stays_that_far_ahead():
    data = Squares(20)
    with no_thread_left():
        batches = iter(DataLoader(data, 2, prefetch=3))
        assert data.asked == []  # nothing, and no thread, before the first batch is asked for
        for i in range(4):
            next(batches)
            deadline = time.monotonic() + 10
            while len(data.asked) < 2 * (i + 4) and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.01)
            assert data.asked == list(range(2 * (i + 4)))
        batches.close()


@pytest.mark.parametrize("end", ["all", "break", "close", "drop", "cycle", "unstarted", "error"])
def test_no_thread_is_left(end):
    with no_thread_left():
        batches = iter(DataLoader(Squares(30, wait=0.001), 2, prefetch=4))
        if end == "all":
            assert len(list(batches)) == 15
            assert next(batches, None) is None
        elif end == "break":
            for _ in DataLoader(Squares(30), 2, prefetch=4):
                break
        elif end == "close":
            next(batches)
            batches.close()
        elif end == "cycle":
            next(batches)
            cycle = [batches]
            cycle.append(cycle)
            del cycle
        elif end == "drop":
            next(batches)
        elif end == "error":
            with pytest.raises(ZeroDivisionError):
                [1 / 0 for _ in DataLoader(Squares(30), 2, prefetch=4)]
        del batches
        gc.collect()


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_errors_come_at_their_batch_with_their_traceback(prefetch):
    seen = []
    with no_thread_left():
        loader = DataLoader(Squares(20, fails=7), 2, prefetch=prefetch)
        with pytest.raises(KeyError, match="item 7 is broken") as info:
            seen.extend(y.tolist() for _, y in loader)
        assert seen == [[0, 1], [2, 3], [4, 5]]
        lines = [frame.line for frame in traceback.extract_tb(info.value.__traceback__)]
        assert 'raise KeyError(f"item {i} is broken")' in lines
        assert "seen.extend(y.tolist() for _, y in loader)" in lines


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_item_cannot_end_the_epoch(prefetch):
    """A StopIteration out of a dataset must not look like the end of it."""
    with no_thread_left(), pytest.raises(RuntimeError, match="StopIteration"):
        list(DataLoader(Squares(6, lambda i: next(iter([]))), 2, prefetch=prefetch))


def test_two_iterations_at_once():
    loader = DataLoader(Squares(12), 2, prefetch=3)
    with no_thread_left():
        pairs = [(a.tolist(), b.tolist()) for (_, a), (_, b) in zip(loader, loader, strict=True)]
        assert pairs == [([i, i + 1],) * 2 for i in range(0, 12, 2)]
        outer = [[y.tolist() for _, y in loader] for _ in loader]
        assert outer == [[[i, i + 1] for i in range(0, 12, 2)]] * 6


@pytest.mark.parametrize("prefetch", [0, 2])
def test_the_context_holds_in_the_thread(prefetch):
    weight = tg.tensor(2.0, requires_grad=True)
    data = Squares(4, lambda i: np.asarray(weight * i / np.float32(0)))
    with tg.no_grad(), np.errstate(all="ignore"):
        found = np.concatenate(list(DataLoader(data, 2, prefetch=prefetch)))
    assert found[1] == np.inf


def test_leaving_python_with_a_thread_at_work():
    import subprocess

    code = (
        "import time, sys; from tinygrad_lite.data import DataLoader\n"
        "class Slow(list):\n"
        "    def __getitem__(self, i): time.sleep(0.01); return i\n"
        "batches = iter(DataLoader(Slow(range(100)), prefetch=2)); next(batches); sys.exit(3)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (3, b"")


# IDX files


def idx(array, code=8, dims=None):
    """The bytes of an IDX file."""
    dims = array.shape if dims is None else dims
    header = struct.pack(f">HBB{len(dims)}I", 0, code, len(dims), *dims)
    return header + array.tobytes()


def image(n, seed=0):
    return RNG(seed).integers(0, 256, (n, 28, 28), np.uint8)


def label(n):
    return (np.arange(n) % 10).astype(np.uint8)


def write_mnist(folder, n=(12, 5), spelling="{}-idx{}-ubyte.gz"):
    pack = gzip.compress if spelling.endswith("gz") else bytes
    for k, prefix in enumerate(("train", "t10k")):
        (folder / spelling.format(f"{prefix}-images", 3)).write_bytes(pack(idx(image(n[k], k))))
        (folder / spelling.format(f"{prefix}-labels", 1)).write_bytes(pack(idx(label(n[k]))))
    return folder


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(5,), (0,), (3, 4), (2, 3, 4), (2, 1, 3, 2), (1,) * 8])
@pytest.mark.parametrize(
    ("code", "dtype"),
    [(8, "u1"), (9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")],
)
def test_read_idx(tmp_path, code, dtype, shape, pack):
    array = (RNG(0).standard_normal(shape) * 50).astype(dtype)
    (tmp_path / "file").write_bytes(pack(idx(array, code)))
    found = read_idx(tmp_path / "file")
    assert np.array_equal(found, array)
    assert found.shape == shape
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.dtype.isnative
    found += 1  # may be written into


GOOD = idx(label(20))
FLIPPED = bytearray(gzip.compress(GOOD))
FLIPPED[-6] ^= 1  # in the checksum


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is no IDX file: it starts with b''"),
        (b"\0\0\x08", "is no IDX file"),
        (b"\x01" + GOOD[1:], "is no IDX file"),
        (b"\0\x01" + GOOD[2:], "is no IDX file"),
        (b"\0\0\x0a\x01" + GOOD[4:], "is no IDX file"),
        (b"\0\0\x08\x00" + GOOD[4:], "is no IDX file"),
        (b"\0\0\x08\x09" + GOOD[4:], "is no IDX file"),
        (b"PK\x03\x04 a zip", "is no IDX file"),
        (b"\0\0\x08\x03\0\0\0\x01\0\0", "ends within its header of 3 dim"),
        (GOOD[:-1], r"declares uint8 \(20,\), 20 bytes, but holds 19"),
        (GOOD + b"\0", "20 bytes, but holds more"),
        (gzip.compress(GOOD[:-1]), "20 bytes, but holds 19"),
        (gzip.compress(GOOD + b"\0"), "20 bytes, but holds more"),
        (gzip.compress(GOOD) + gzip.compress(b"more"), "20 bytes, but holds more"),
        (gzip.compress(GOOD)[:-9], "corrupt gzip"),
        (gzip.compress(GOOD)[:8], "corrupt gzip"),
        (bytes(FLIPPED), "corrupt gzip"),
        (gzip.compress(GOOD)[:10] + b"\xff" * 20, "corrupt gzip"),
        (gzip.compress(GOOD) + b"trailing", "corrupt gzip"),
        (b"\x1f\x8b", "corrupt gzip"),
        (idx(label(4), dims=(2**32 - 1,)), "over 1,073,741,824 bytes"),
        (idx(label(4), dims=(2**32 - 1,) * 8), "over 1,073,741,824 bytes"),
        (idx(label(4), dims=(2**32 - 1, 0, 2**32 - 1)), "over 1,073,741,824 bytes"),
        (idx(label(4), 14, dims=(2**27 + 1,)), "over 1,073,741,824 bytes"),
        (idx(label(4), dims=(2**30,)), "1,073,741,824 bytes, but holds 4"),
    ],
)
def test_bad_idx_files(tmp_path, content, match):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=match) as info:
        read_idx(tmp_path / "file")
    assert str(tmp_path / "file") in str(info.value)


def test_read_idx_limit_and_missing_file(tmp_path):
    (tmp_path / "file").write_bytes(GOOD)
    assert len(read_idx(str(tmp_path / "file"), limit=20)) == 20
    with pytest.raises(ValueError, match="over 19 bytes"):
        read_idx(tmp_path / "file", limit=19)
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")


def memory(function, *args):
    """The most memory that a call takes, in bytes."""
    import tracemalloc

    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"."):
            function(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_no_memory_for_what_only_a_header_says(tmp_path):
    (tmp_path / "header").write_bytes(idx(label(4), dims=(2**30,)))
    assert memory(read_idx, tmp_path / "header") < 8e6
    bomb = zlib.compressobj(9, wbits=31)
    with open(tmp_path / "bomb", "wb") as file:  # 200 MB behind a header of 4 bytes
        file.write(bomb.compress(idx(label(4))))
        for _ in range(200):
            file.write(bomb.compress(bytes(2**20)))
        file.write(bomb.flush())
    assert (tmp_path / "bomb").stat().st_size < 1e6
    assert memory(read_idx, tmp_path / "bomb") < 8e6


# MNIST


@pytest.mark.parametrize("reader", [mnist, fashion_mnist])
@pytest.mark.parametrize(
    "spelling", ["{}-idx{}-ubyte.gz", "{}-idx{}-ubyte", "{}.idx{}-ubyte", "{}.idx{}-ubyte.gz"]
)
def test_mnist(tmp_path, spelling, reader):
    parts = reader(write_mnist(tmp_path, spelling=spelling))
    for k, (name, n) in enumerate((("train", 12), ("test", 5))):
        for x, y in (parts[k], reader(str(tmp_path), name)):
            assert (x.shape, x.dtype) == ((n, 28, 28), np.float32)
            assert (y.shape, y.dtype) == ((n,), np.int64)
            assert np.array_equal(x, image(n, k).astype(np.float32) / 255)
            assert np.array_equal(y, label(n))
            assert x.max() == 1
            x[:] = y[:] = 0  # may be written into
    assert np.array_equal(reader(tmp_path)[1][1], label(5))


def test_a_plain_file_may_be_called_gz_and_a_folder_like_a_file(tmp_path):
    write_mnist(tmp_path, spelling="{}-idx{}-ubyte.gz")
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.decompress(path.read_bytes()))
    (tmp_path / "t10k-images-idx3-ubyte").mkdir()
    assert mnist(tmp_path, "test")[0].shape == (5, 28, 28)


def test_the_real_digits(tmp_path):
    """Where they are: all 10,000 test digits. Elsewhere the same of generated ones."""
    beside = Path(__file__).resolve().parents[2] / "shared/data/mnist"
    folder = Path(os.environ.get("TINYGRAD_LITE_DATA", beside))
    real = (folder / "t10k-images-idx3-ubyte.gz").is_file()
    x, y = mnist(folder if real else write_mnist(tmp_path), "test")
    assert len(x) == (10_000 if real else 5)
    pixels = np.round(x * 255).astype(np.uint8)
    assert np.array_equal(pixels.astype(np.float32) / 255, x)
    if real:
        sums = (
            hashlib.md5(idx(pixels)).hexdigest(),
            hashlib.md5(idx(y.astype(np.uint8))).hexdigest(),
        )
        assert sums == ("2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637")
        assert np.bincount(y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("images", idx(label(5)), r"uint8 \(5,\), expected uint8 \(5, 28, 28\)"),
        ("images", idx(image(5)[:, :27]), r"\(5, 27, 28\), expected .*\(5, 28, 28\)"),
        ("images", idx(image(5).astype("i1"), 9), r"int8 \(5, 28, 28\), expected uint8"),
        ("images", idx(image(5)[..., None]), r"\(5, 28, 28, 1\)"),
        ("images", idx(image(6)), r"labels.* holds uint8 \(5,\), expected uint8 \(6,\)"),
        ("labels", idx(image(5)), r"uint8 \(5, 28, 28\), expected uint8 \(5,\)"),
        ("labels", idx(label(4)), r"uint8 \(4,\), expected uint8 \(5,\)"),
        ("labels", idx(label(5)[:, None]), r"\(5, 1\)"),
        ("labels", idx(label(5).astype(">i4"), 12), "int32"),
        ("labels", idx(label(5) + 6), "label 4 is 10, expected 0 to 9"),
        ("images", idx(image(1), dims=(200_000, 28, 28)), "over 134,217,728 bytes"),
        ("images", gzip.compress(idx(image(5)))[:99], "corrupt gzip"),
    ],
)
def test_bad_mnist_files(tmp_path, name, content, match):
    digit = "3" if name == "images" else "1"
    write_mnist(tmp_path, spelling="{}-idx{}-ubyte")
    (tmp_path / f"t10k-{name}-idx{digit}-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=match) as info:
        mnist(tmp_path)
    assert str(tmp_path / "t10k-") in str(info.value)
    assert mnist(tmp_path, "train")[0].shape == (12, 28, 28)


@pytest.mark.parametrize("reader", [mnist, fashion_mnist, cifar10])
def test_missing_files_say_where_to_get_them(tmp_path, reader):
    address = images.SOURCES[reader.__name__][0]
    for folder in (tmp_path, tmp_path / "none", str(tmp_path)):
        for part in ("train", "test", None):
            with pytest.raises(FileNotFoundError, match="download=True") as info:
                reader(folder, part)
            assert address in str(info.value)
    assert list(tmp_path.iterdir()) == []
    for part in ("valid", "", 0, True):
        with pytest.raises(ValueError, match="part must be"):
            reader(tmp_path, part)
    with pytest.raises(TypeError):
        reader(tmp_path, None, True)


def test_one_pair_is_enough_for_its_part(tmp_path):
    write_mnist(tmp_path)
    for file in tmp_path.glob("train-*"):
        file.unlink()
    assert mnist(tmp_path, "test")[1].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte.gz and train-labels"):
        mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"put there t10k-labels-idx1-ubyte.gz from"):
        mnist(tmp_path, "test")


# CIFAR-10


def pixel(n, seed=0):
    return RNG(seed).integers(0, 256, (n, 3072), np.uint8)


def text(string):
    return (b"U%c" if len(string) < 256 else b"T%c\0\0\0") % len(string) + string


def python2(pixels, labels, by_column=False, extra=b""):
    """The bytes of a batch, opcode for opcode as Python 2's cPickle wrote the published files."""
    n, raw = len(pixels), pixels.tobytes("F" if by_column else "C")
    memo = iter(range(1, 10**6))

    def put():
        i = next(memo)
        return b"q%c" % i if i < 256 else b"r" + struct.pack("<I", i)

    def number(i):
        return b"K%c" % i if i < 256 else b"M" + struct.pack("<H", i)

    def items(values):  # in groups of a thousand
        groups = [values[i : i + 1000] for i in range(0, len(values), 1000)]
        return b"]" + put() + b"".join(b"(" + b"".join(group) + b"e" for group in groups)

    names = [f"some_cat_s_{i:06d}.png".encode() for i in range(n)]
    return b"".join([
        b"\x80\x02}", put(), b"(", text(b"batch_label"), put(), text(b"testing batch 1 of 1"), put(),
        text(b"labels"), put(), items([number(i) for i in labels]), text(b"data"), put(),
        b"cnumpy.core.multiarray\n_reconstruct\n", put(), b"cnumpy\nndarray\n", put(),
        b"K\0\x85", put(), text(b"b"), put(), b"\x87", put(), b"R", put(),
        b"(K\x01", number(n), number(3072), b"\x86", put(), b"cnumpy\ndtype\n", put(),
        text(b"u1"), put(), b"K\0K\x01\x87", put(), b"R", put(), b"(K\x03", text(b"|"), put(),
        b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\0t", put(), b"b", b"\x88" if by_column else b"\x89",
        b"T", struct.pack("<I", len(raw)), raw, put(), b"t", put(), b"b",
        extra, text(b"filenames"), put(), items([text(name) + put() for name in names]), b"u.",
    ])  # fmt: skip


def python3(pixels, labels):
    names = [b"cat_%d.png" % i for i in range(len(pixels))]
    batch = {b"data": pixels, b"labels": labels.tolist(), b"filenames": names}
    return pickle.dumps(batch, protocol=2)


def python3_text_keys(pixels, labels):
    batch = {"labels": labels.tolist(), "batch_label": "x", "data": pixels}
    return pickle.dumps(batch, protocol=2)


def binary(pixels, labels):
    return np.concatenate([labels[:, None], pixels], 1).tobytes()


FORMS = {
    "python2": python2,
    "by_column": functools.partial(python2, by_column=True),
    "python3": python3,
    "python3_text_keys": python3_text_keys,
    "binary": binary,
}


def write_cifar(folder, form="python2", n=(4, 7)):
    folder.mkdir(parents=True, exist_ok=True)
    tail = ".bin" if form == "binary" else ""
    for i in range(1, 6):
        (folder / f"data_batch_{i}{tail}").write_bytes(FORMS[form](pixel(n[0], i), label(n[0])))
    (folder / f"test_batch{tail}").write_bytes(FORMS[form](pixel(n[1], 9), label(n[1])))


def test_the_generated_pickles_are_real_ones():
    """Python's own unpickler reads of them what was meant."""
    for form in (python2, FORMS["by_column"], python3):
        batch = pickle.loads(form(pixel(300), label(300)), encoding="bytes")
        assert np.array_equal(batch[b"data"], pixel(300))
        assert batch[b"labels"] == label(300).tolist()
        assert len(batch[b"filenames"]) == 300


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-py", "cifar-10-batches-bin"])
@pytest.mark.parametrize("form", FORMS)
def test_cifar10(tmp_path, form, inner):
    if inner and (form == "binary") != inner.endswith("bin"):
        inner = {"cifar-10-batches-py": "cifar-10-batches-bin"}.get(inner, "cifar-10-batches-py")
    write_cifar(tmp_path / inner, form)
    expected = np.concatenate([pixel(4, i) for i in range(1, 6)]), pixel(7, 9)
    parts = cifar10(tmp_path)
    for k, (name, n) in enumerate((("train", 20), ("test", 7))):
        for x, y in (parts[k], cifar10(str(tmp_path), name)):
            assert (x.shape, x.dtype) == ((n, 3, 32, 32), np.float32)
            assert np.array_equal(x, expected[k].reshape(n, 3, 32, 32).astype(np.float32) / 255)
            assert x.flags.c_contiguous
            assert y.dtype == np.int64
            assert y.tolist() == ([0, 1, 2, 3] * 5 if name == "train" else list(range(7)))
            x[:] = y[:] = 0  # may be written into
    (tmp_path / inner / ("data_batch_3" + ".bin" * (form == "binary"))).unlink()
    assert cifar10(tmp_path, "test")[0].shape == (7, 3, 32, 32)
    with pytest.raises(FileNotFoundError, match=r"cifar-10-python.tar.gz from https"):
        cifar10(tmp_path)


def test_a_batch_of_full_size(tmp_path):
    """Thousands of labels and names: groups, long memo indices, no limit met too soon."""
    for form in (python2, python3):
        (tmp_path / "test_batch").write_bytes(form(pixel(10_000), label(10_000)))
        x, y = cifar10(tmp_path, "test")
        assert np.array_equal(np.round(x.reshape(10_000, -1) * 255), pixel(10_000))
        assert np.array_equal(y, label(10_000))


RAN = []


def hit(*args):
    RAN.append(args)


class Attack:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def forged(function, *args, protocol=2):
    """A valid batch with one more entry, that calls something."""
    batch = {b"labels": [1], b"data": pixel(1), b"filenames": [Attack(function, *args)]}
    return pickle.dumps(batch, protocol=protocol)


def P2(body):
    return b"\x80\x02" + body


HEAD = python2(pixel(2), label(2))
ATTACKS = {
    # what must not be called, by name
    "os.system": (forged(os.system, "touch ran"), r"(posix|nt)\.system would run code: refused"),
    "eval": (forged(eval, "hit()"), r"__builtin__\.eval would run code: refused"),
    "exec": (forged(exec, "hit()"), r"__builtin__\.exec would run code"),
    "getattr": (forged(getattr, 1, "real"), r"__builtin__\.getattr would run code"),
    "np.load": (forged(np.load, "x.npy"), r"numpy\.load would run code"),
    "np.array": (forged(np.array, [1]), r"numpy.*array would run code"),
    "f2py": (P2(b"cnumpy.f2py\ncompile\n(U\x01xtR."), r"numpy\.f2py\.compile would run code"),
    "testing": (P2(b"cnumpy.testing._private.utils\nrunstring\n)R."), "runstring would run code"),
    "pickle": (P2(b"c_pickle\nloads\nU\x01.\x85R."), r"_pickle\.loads would run code"),
    "dotted": (P2(b"cnumpy\ndtype.__init__\n)R."), r"numpy\.dtype\.__init__ would run code"),
    "newline": (P2(b"cnumpy\nndarray \n)R."), "would run code"),
    "two spaces": (P2(b"cnumpy ndarray\nload\n)R."), "would run code"),
    "decode": (P2(b"c_codecs\ndecode\n)R."), r"_codecs\.decode would run code"),
    "amid": (python2(pixel(2), label(2), extra=b"U\x01xcos\nsystem\nU\x02id\x85R"), r"os\.system"),
    # opcodes that could call or import in other ways
    "inst": (P2(b"(U\x02idios\nsystem\n."), "INST, is none of its: refused"),
    "obj": (P2(b"(cnumpy\nndarray\no."), "OBJ, is none"),
    "newobj": (P2(b"cnumpy\nndarray\n)\x81."), "NEWOBJ, is none"),
    "newobj_ex": (P2(b"cnumpy\nndarray\n)}\x92."), "NEWOBJ_EX, is none"),
    "stack_global": (P2(b"\x8c\x02os\x8c\x06system\x93)R."), "is none of its"),
    "protocol 4": (forged(os.system, "touch ran", protocol=4), "FRAME, is none"),
    "protocol 0": (forged(os.system, "touch ran", protocol=0), "."),
    "ext1": (P2(b"\x82\x01."), "EXT1, is none"),
    "ext2": (P2(b"\x83\x01\x00."), "EXT2, is none"),
    "ext4": (P2(b"\x84\x01\x00\x00\x00."), "EXT4, is none"),
    "persid": (P2(b"Pname\n."), "PERSID, is none"),
    "binpersid": (P2(b"U\x01xQ."), "BINPERSID, is none"),
    "ext1 amid": (python2(pixel(2), label(2), extra=b"U\x01x\x82\x01"), "EXT1, is none"),
    "persid amid": (python2(pixel(2), label(2), extra=b"U\x01xPname\n"), "PERSID, is none"),
    "buffer": (P2(b"\x97."), "NEXT_BUFFER, is none"),
    # sizes
    "long string": (P2(b"T\xff\xff\xff\x7fabc."), "no batch of CIFAR-10"),
    "negative string": (P2(b"T\xff\xff\xff\xffabc."), "no batch"),
    "long text": (P2(b"X\xff\xff\xff\xffabc."), "no batch"),
    "longer text": (P2(b"\x8d" + b"\xff" * 7 + b"\x7fabc."), "no batch"),
    "bytearray": (P2(b"\x96" + b"\xff" * 4 + b"\0\0\0\0abc."), "no batch"),
    "long frame": (P2(b"\x95" + b"\xff" * 7 + b"\x7f."), "none of its"),
    "long number": (P2(b"\x8b\xff\xff\xff\x7f\x01."), "no batch"),
    "digits": (P2(b"L" + b"9" * 200_000 + b"L\n."), "no batch"),
    "big labels": (python2(pixel(2), [1, 60_000]), "no batch of CIFAR-10: .*out of bounds"),
    "memo": (P2(b"]r\xff\xff\xff\x7f."), "no `data`"),
    "memo bomb": (P2(b")q\0" + b"h\0h\0\x86q\0" * 1000 + b"."), "no `data`"),
    "hash bomb": (P2(b"})q\0" + b"h\0h\0\x86q\0" * 60 + b"Ns."), "no `data`"),
    "deep": (P2(b"]" * 100_000 + b"a" * 99_999 + b"."), "no `data`"),
    "deep tuples": (P2(b")" + b"\x85" * 150_000 + b"."), "no `data`"),
    "many": (P2(b"]" * 1_000_000 + b"."), "opcode 200001, EMPTY_LIST, is none"),
    "itself": (P2(b"]q\0h\0a."), "no `data`"),
    # no pickle, or half of one
    "empty": (b"", "no batch of CIFAR-10"),
    "text": (b"<!DOCTYPE html><html>404</html>", "no batch"),
    "gzip": (gzip.compress(HEAD), "no batch"),
    "cut": (HEAD[:-1], "no batch"),
    "cut in data": (HEAD[:4000], "no batch"),
    "underflow": (P2(b"\x86."), "no `data`"),
    # other contents
    "dict": (pickle.dumps({}, 2), "no `data`"),
    "list": (pickle.dumps([1, 2], 2), "no `data`"),
    "no labels": (pickle.dumps({b"data": pixel(2)}, 2), "2 images, but not as many `labels`"),
    "few labels": (python2(pixel(2), [1]), "2 images, but not as many `labels`"),
    "many labels": (python2(pixel(2), [1, 2, 3]), "2 images, but not as many `labels`"),
    "label 10": (python2(pixel(2), [1, 10]), "label 1 is 10, expected 0 to 9"),
    "text labels": (pickle.dumps({b"data": pixel(1), b"labels": [b"3"]}, 2), "numbers"),
    "bool labels": (pickle.dumps({b"data": pixel(1), b"labels": [True]}, 2), "numbers"),
    "array labels": (pickle.dumps({b"data": pixel(1), b"labels": label(1)}, 2), "as many"),
    "cifar100": (pickle.dumps({b"data": pixel(1), b"fine_labels": [3]}, 2), "."),
    "float data": (pickle.dumps({b"data": np.ones((1, 3072)), b"labels": [1]}, 2), "no `data`"),
    "int8 data": (pickle.dumps({b"data": np.ones((1, 3072), "i1"), b"labels": [1]}, 2), "`data`"),
    "object data": (pickle.dumps({b"data": np.array([[None] * 3072]), b"labels": [1]}, 2), "`data`"),
    "structured": (pickle.dumps({b"data": np.ones((1, 3072), "u1,u1"), b"labels": [1]}, 2), "."),
    "flat data": (pickle.dumps({b"data": pixel(1)[0], b"labels": [1]}, 2), "no `data`"),
    "wide data": (pickle.dumps({b"data": np.ones((1, 3073), "u1"), b"labels": [1]}, 2), "`data`"),
    "image data": (pickle.dumps({b"data": np.ones((1, 3, 32, 32), "u1"), b"labels": [1]}, 2), "."),
    "short data": (HEAD.replace(b"(K\x01K\x02", b"(K\x01K\x03"), "no batch"),
    "minus data": (HEAD.replace(b"(K\x01K\x02", b"(K\x01J\xff\xff\xff\xff"), "no batch"),
    "wide text": (
        P2(b"}(U\x04datacnumpy\nndarray\nK\0U\x01bK\x01K\x01M\0\x0cU\x02u1\x89X\0\x18\0\0")
        + "\u0416".encode() * 3072 + b"U\x06labels]K\x01au.", "codec can't encode"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_bad_pickles(tmp_path, monkeypatch, name):
    """None runs anything, none takes memory beyond its own size, each raises ValueError."""
    content, match = ATTACKS[name]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "test_batch"
    path.write_bytes(content)
    imported = set(sys.modules)
    with pytest.raises(ValueError, match=match) as info:
        cifar10(tmp_path, "test")
    assert str(path) in str(info.value)
    assert list(tmp_path.iterdir()) == [path]
    assert not RAN
    assert not any(m.startswith("numpy") for m in set(sys.modules) - imported)
    assert memory(cifar10, tmp_path, "test") < 40e6 + 4 * len(content)


def test_the_unpickler_is_never_called(tmp_path, monkeypatch):
    for name in ("loads", "load", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, None)
    (tmp_path / "test_batch").write_bytes(HEAD)
    assert cifar10(tmp_path, "test")[1].tolist() == [0, 1]


def test_damaged_pickles_never_fail_otherwise(tmp_path):
    """Any byte changed: the same pixels and labels or others, or ValueError; nothing else."""
    rng = RNG(0)
    whole = bytearray(python2(pixel(2), label(2)))
    interesting = [i for i in range(len(whole)) if not 300 < i < 6300]
    for _ in range(1500):
        damaged = bytearray(whole)
        for i in rng.choice(interesting, rng.integers(1, 4)):
            damaged[i] = rng.integers(256)
        (tmp_path / "test_batch").write_bytes(damaged)
        try:
            x, y = cifar10(tmp_path, "test")
        except ValueError:
            continue
        assert x.shape == (2, 3, 32, 32)
        assert y.shape == (2,)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "has 0 bytes, expected whole records of 3,073"),
        (bytes(3073 * 2 - 1), "has 6,145 bytes, expected whole records"),
        (bytes(3073 + 1), "expected whole records"),
        (bytes(3073) + b"\x0a" + bytes(3072), "label 1 is 10, expected 0 to 9"),
    ],
)
def test_bad_binary_batches(tmp_path, content, match):
    path = tmp_path / "test_batch.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match) as info:
        cifar10(tmp_path, "test")
    assert str(path) in str(info.value)


@pytest.mark.parametrize("name", ["test_batch", "test_batch.bin"])
def test_a_huge_batch_is_not_read(tmp_path, name):
    with open(tmp_path / name, "wb") as file:
        file.truncate(2**26 + 3073)
    with pytest.raises(ValueError, match="no file of CIFAR-10 over 67,108,864"):
        cifar10(tmp_path, "test")
    assert memory(cifar10, tmp_path, "test") < 1e6


# Downloads, from a server in this process


@pytest.fixture
def server(tmp_path_factory, monkeypatch):
    """A folder that is served at an address; what is asked for is noted."""
    pytest.importorskip("pooch")
    folder = tmp_path_factory.mktemp("served")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield folder, f"http://127.0.0.1:{httpd.server_port}/", asked
        httpd.shutdown()
        thread.join()


def serve(monkeypatch, server, source, wrong=()):
    folder, address, _ = server
    hashes = {
        p.name: hashlib.md5(b"x" if p.name in wrong else p.read_bytes()).hexdigest()
        for p in sorted(folder.iterdir())
    }
    assert set(hashes) == set(images.SOURCES[source][1])
    monkeypatch.setitem(images.SOURCES, source, (address, hashes))


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize("reader", [mnist, fashion_mnist])
def test_download(tmp_path, monkeypatch, server, reader):
    write_mnist(server[0])
    serve(monkeypatch, server, reader.__name__)
    target = tmp_path / "new" / "folder"
    x, y = reader(target, "test", download=True)
    assert np.array_equal(x, image(5, 1).astype(np.float32) / 255)
    assert np.array_equal(y, label(5))
    assert names(target) == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    (tmp_path / "other").touch()
    assert {p.stat().st_mode for p in [tmp_path / "other", *target.iterdir()]} == {
        (tmp_path / "other").stat().st_mode
    }
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in target.iterdir()}
    (train, _), _ = reader(target, download=True)  # the two that are missing, no other
    assert len(train) == 12
    assert names(target) == names(server[0])
    assert all((p.stat().st_mtime_ns, p.read_bytes()) == before[p] for p in before)
    assert len(server[2]) == len(set(server[2])) == 4
    reader(target, download=True)
    assert len(server[2]) == 4


def test_download_overwrites_nothing(tmp_path, monkeypatch, server):
    write_mnist(server[0])
    serve(monkeypatch, server, "mnist")
    mine = tmp_path / "t10k-labels.idx1-ubyte"
    mine.write_bytes(idx(label(5)[::-1].copy()))
    assert mnist(tmp_path, "test", download=True)[1].tolist() == [4, 3, 2, 1, 0]
    assert names(tmp_path) == ["t10k-images-idx3-ubyte.gz", "t10k-labels.idx1-ubyte"]
    mine.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is no IDX file"):
        mnist(tmp_path, "test", download=True)
    assert mine.read_bytes() == b"damaged"


@pytest.mark.parametrize("damage", ["hash", "missing"])
def test_a_bad_download_leaves_nothing(tmp_path, monkeypatch, server, damage):
    write_mnist(server[0])
    serve(monkeypatch, server, "mnist", wrong=["t10k-labels-idx1-ubyte.gz"])
    if damage == "missing":
        (server[0] / "t10k-labels-idx1-ubyte.gz").unlink()
    error = (ValueError, "hash") if damage == "hash" else (OSError, "404")
    with pytest.raises(error[0], match=error[1]):
        mnist(tmp_path, "test", download=True)
    assert names(tmp_path) == ["t10k-images-idx3-ubyte.gz"]  # which was right


def write_archive(path, extra=()):
    """The six files; before and after them what does not belong there."""
    files = ["test_batch", *(f"data_batch_{i}" for i in range(1, 6))]
    batches = [
        (f"cifar-10-batches-py/{name}", python2(pixel(2, i), label(2)))
        for i, name in enumerate(files)
    ]
    with tarfile.open(path, "w:gz") as tar:
        for name, content in [*extra, *batches, *extra]:
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = content
                tar.addfile(member)


EXTRA = [
    ("../evil", b"x"),
    ("cifar-10-batches-py/../../evil", b"x"),
    ("cifar-10-batches-py/readme.html", b"x"),
    ("cifar-10-batches-py/link", (tarfile.SYMTYPE, "/etc/passwd")),
    ("cifar-10-batches-py/hard", (tarfile.LNKTYPE, "../evil")),
    ("cifar-10-batches-py/test_batch", (tarfile.SYMTYPE, "../../evil")),
    ("cifar-10-batches-py/test_batch", (tarfile.FIFOTYPE, "")),
    ("cifar-10-batches-py/data_batch_1", (tarfile.DIRTYPE, "")),
]


def test_download_of_cifar10(tmp_path, monkeypatch, server):
    absolute = (str(tmp_path / "evil"), b"x")
    write_archive(server[0] / "cifar-10-python.tar.gz", [absolute, *EXTRA])
    serve(monkeypatch, server, "cifar10")
    target = tmp_path / "target"
    inner = target / "cifar-10-batches-py"
    inner.mkdir(parents=True)
    (inner / "data_batch_2").write_bytes(python2(pixel(2, 99), label(2)))
    (x, y), (test, _) = cifar10(target, download=True)
    assert np.array_equal(test, pixel(2, 0).reshape(2, 3, 32, 32).astype(np.float32) / 255)
    assert np.array_equal(x[2:4].reshape(2, -1) * 255, pixel(2, 99))  # mine was kept
    assert np.array_equal(x[:2].reshape(2, -1) * 255, pixel(2, 1))
    assert y.tolist() == [0, 1] * 5
    files = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    assert sorted(p.name for p in inner.iterdir()) == files
    assert all(p.is_file() and not p.is_symlink() for p in inner.iterdir())
    assert names(tmp_path) == ["target", *sorted(["target/cifar-10-batches-py"] + [
        f"target/cifar-10-batches-py/{name}" for name in files])]  # fmt: skip


def test_a_bad_download_of_cifar10(tmp_path, monkeypatch, server):
    archive = server[0] / "cifar-10-python.tar.gz"
    write_archive(archive)
    serve(monkeypatch, server, "cifar10", wrong=[archive.name])
    with pytest.raises(ValueError, match="hash"):
        cifar10(tmp_path, download=True)
    assert names(tmp_path) == []
    monkeypatch.setattr(images, "CIFAR_BYTES", 100)  # each file is larger: none is unpacked
    monkeypatch.setitem(images.SOURCES, "cifar10", (server[1], {
        archive.name: hashlib.md5(archive.read_bytes()).hexdigest()}))  # fmt: skip
    with pytest.raises(FileNotFoundError, match=r"put there cifar-10-python.tar.gz"):
        cifar10(tmp_path, "test", download=True)
    assert not [name for name in names(tmp_path) if "batch_" in name or "_batch" in name]


def test_download_without_pooch_says_how(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    for reader in (mnist, cifar10):
        with pytest.raises(ImportError, match=r"pip install 'tinygrad-lite\[download\]'"):
            reader(tmp_path / "new", download=True)
    assert names(tmp_path) == []


def test_addresses_and_hashes():
    """Each an MD5 as its publisher or torchvision gives it; the two test files of MNIST are here."""
    for address, hashes in images.SOURCES.values():
        assert address.startswith("http")
        assert address.endswith("/")
        assert all(len(h) == 32 and set(h) <= set("0123456789abcdef") for h in hashes.values())
    assert len({h for _, hashes in images.SOURCES.values() for h in hashes.values()}) == 9
