"""Datasets, and batches of them as NumPy arrays.

The one trick: arrays are indexed once for a whole batch; any other dataset is asked for its items
one by one, in a background thread if wanted.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Protocol

import numpy as np

from ..rng import generator

Array = np.ndarray[Any, Any]


class Dataset(Protocol):
    """Anything with `len(dataset)` and `dataset[i]`; a subclass defines both."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Any: ...


class TensorDataset(Dataset):
    """Arrays with equal first axes: item i is the tuple of each array's row i."""

    def __init__(self, *arrays: Any) -> None:
        self.arrays = tuple(np.asarray(a) for a in arrays)
        shapes = [a.shape for a in self.arrays]
        if () in shapes or len({shape[:1] for shape in shapes}) != 1:
            raise ValueError(f"TensorDataset needs arrays with equal first axes, got {shapes}")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any, /) -> tuple[Any, ...]:
        return tuple(a[index] for a in self.arrays)


class Subset(Dataset):
    """The items of a dataset at `indices` (whole numbers), in their order."""

    def __init__(self, dataset: Dataset, indices: Any) -> None:
        chosen, n = np.asarray(indices), len(dataset)
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
            raise TypeError(f"Subset needs a row of ints, got {chosen.dtype} {chosen.shape}")
        if len(wrong := chosen[(chosen < -n) | (chosen >= n)]):
            raise IndexError(f"Subset: index {wrong[0]} is out of range for {n} items")
        self.dataset, self.indices = dataset, chosen.astype(np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any, /) -> Any:
        return self.dataset[self.indices[index].tolist()]


def random_split(
    dataset: Dataset, lengths: Sequence[float], rng: np.random.Generator | None = None
) -> list[Subset]:
    """Share a dataset out at random, by counts (ints) or fractions (rounded as PyTorch does)."""
    n, counts = len(dataset), list(lengths)
    if fractions := not all(isinstance(x, (int, np.integer)) for x in lengths):
        counts = [math.floor(n * x) for x in lengths]
        counts = [c + (i < n - sum(counts)) for i, c in enumerate(counts)]
    wrong = (fractions and not math.isclose(sum(lengths), 1)) or min(lengths, default=-1) < 0
    if wrong or sum(counts) != n:
        raise ValueError(f"lengths must be counts with sum {n} or fractions with sum 1: {lengths}")
    parts = np.split(generator(rng).permutation(n), np.cumsum(counts)[:-1])
    return [Subset(dataset, part) for part in parts]


class DataLoader:
    """Batches of a dataset: `for x, y in DataLoader(TensorDataset(images, labels), 64, True): ...`.

    Items that are tuples become a tuple of arrays, dicts a dict of arrays, and numbers or arrays
    one array, with the batch as first axis. Batches are copies: they may be written into.

    Parameters
    ----------
    dataset, batch_size, shuffle, drop_last, collate_fn
        As PyTorch's. Every epoch is shuffled anew; `collate_fn(list of items)` makes the batch.
    rng
        NumPy Generator to shuffle with; by default the package's (`tg.manual_seed`).
    prefetch
        How many batches a background thread prepares ahead; 0 is no thread. Worth it where items
        are waited for (files, say). A dataset that draws random numbers then needs its own rng.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int = 1, shuffle: bool = False, *,
        drop_last: bool = False, collate_fn: Callable[[list[Any]], Any] | None = None,
        rng: np.random.Generator | None = None, prefetch: int = 0,
    ) -> None:  # fmt: skip
        for name, value, least in (("batch_size", batch_size, 1), ("prefetch", prefetch, 0)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise TypeError(f"{name} must be an int, got {value!r}")
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not hasattr(dataset, "__len__"):
            raise TypeError(f"a dataset needs a length; {type(dataset).__name__} has no __len__")
        if not len(dataset):
            raise ValueError("the dataset is empty")
        generator(rng)  # refuses what is none
        self.dataset, self.batch_size, self.shuffle = dataset, int(batch_size), shuffle
        self.drop_last, self.collate_fn, self.rng = drop_last, collate_fn, rng
        self.prefetch = int(prefetch)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        n, size = len(self.dataset), self.batch_size
        order = generator(self.rng).permutation(n) if self.shuffle else np.arange(n)
        jobs = (order[i * size : (i + 1) * size] for i in range(len(self)))
        return self._ahead(jobs) if self.prefetch else (self._batch(job) for job in jobs)

    def _ahead(self, jobs: Iterator[Array]) -> Iterator[Any]:
        """The same batches, of which a thread keeps up to `prefetch` ready."""
        pool = ThreadPoolExecutor(1, "DataLoader")
        run = contextvars.copy_context().run  # tg.no_grad and np.errstate hold in the thread too
        try:
            ready = deque(pool.submit(run, self._batch, job) for job in islice(jobs, self.prefetch))
            while ready:
                batch = ready.popleft().result()
                ready.extend(pool.submit(run, self._batch, job) for job in islice(jobs, 1))
                yield batch
        finally:
            with contextlib.suppress(RuntimeError):  # if garbage collection in the thread ends it
                pool.shutdown(cancel_futures=True)

    def _batch(self, indices: Array) -> Any:
        dataset: Any = self.dataset
        rows = indices
        while type(dataset) is Subset:  # exact types: a subclass may have its own __getitem__
            dataset, rows = dataset.dataset, dataset.indices[rows]
        if type(dataset) in (TensorDataset, np.ndarray) and not self.collate_fn:
            return dataset[rows]
        items = [self.dataset[i] for i in indices.tolist()]
        return self.collate_fn(items) if self.collate_fn else _collate(items, indices)


def _collate(items: list[Any], indices: Array) -> Any:
    """One batch of items: key by key for dicts, part by part for tuples, stacked otherwise."""
    values: list[Any] = [x if isinstance(x, (dict, tuple)) else np.asarray(x) for x in items]
    kinds: list[tuple[type, Any]] = [(dict, set), (tuple, len), (np.ndarray, np.shape)]
    forms = [form(x) for x in values for kind, form in kinds if isinstance(x, kind)]
    for i, form in zip(indices, forms, strict=True):
        if form != forms[0]:
            raise ValueError(
                "items of one batch must have one shape (or length of tuples, or keys of dicts): "
                f"item {i} has {form}, item {indices[0]} has {forms[0]}; or pass collate_fn"
            )
    if isinstance(first := values[0], dict):
        return {key: _collate([item[key] for item in items], indices) for key in first}
    if isinstance(first, tuple):
        return tuple(_collate(list(part), indices) for part in zip(*items, strict=True))
    if (batch := np.stack(values)).dtype == object:
        raise TypeError(
            f"{type(items[0]).__name__} items make no array of numbers: pass collate_fn"
        )
    return batch
