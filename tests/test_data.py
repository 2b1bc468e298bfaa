"""The digits: the right ones, split as documented, read only when asked for."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from tinygrad_lite.data import FILE, digits

SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


@pytest.mark.parametrize(("part", "n"), [(0, 1437), (1, 360)])
def test_shapes_and_units(part, n):
    images, labels = digits()[part]
    assert (images.shape, images.dtype) == ((n, 8, 8), np.float32)
    assert (labels.shape, labels.dtype) == ((n,), np.int64)
    assert images.min() == 0
    assert images.max() == 1
    assert np.array_equal(images * 16, np.round(images * 16))


def test_every_class_is_in_both_parts():
    (_, train), (_, test) = digits()
    assert np.bincount(train).tolist() == [151, 147, 141, 154, 151, 142, 137, 140, 135, 139]
    assert np.bincount(test).tolist() == [27, 35, 36, 29, 30, 40, 44, 39, 39, 41]


def test_no_digit_is_in_both_parts():
    (train, _), (test, _) = digits()
    seen = {image.tobytes() for image in train}  # the 1,797 images are all different
    assert len(seen) == 1437
    assert seen.isdisjoint({image.tobytes() for image in test})


def test_values_are_those_of_the_source():
    """The checksum was taken of scikit-learn's arrays, images then labels, as bytes."""
    (train, train_labels), (test, test_labels) = digits()
    source = np.argsort(np.random.RandomState(0).permutation(1797))
    images = (np.concatenate([test, train])[source] * 16).astype(np.uint8)
    labels = np.concatenate([test_labels, train_labels])[source].astype(np.uint8)
    assert hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() == SHA256


def test_calls_share_no_memory():
    (images, labels), _ = digits()
    images[:] = labels[:] = 0
    (again, labels_again), _ = digits()
    assert again.any()
    assert labels_again.any()


def test_file_is_small_and_attributed():
    assert FILE.stat().st_size < 60_000
    notice = FILE.with_suffix(".txt").read_text(encoding="utf-8")
    for word in ("Alpaydin", "Kaynak", "10.24432/C50P49", "CC BY 4.0"):
        assert word in notice
        assert word in digits.__doc__


def test_import_reads_no_data():
    """An audit hook sees every file that Python opens."""
    code = (
        "import sys; opened = []; "
        "sys.addaudithook(lambda event, args: event == 'open' and opened.append(str(args[0]))); "
        "import tinygrad_lite, tinygrad_lite.data; "
        "assert not [f for f in opened if f.endswith('.npz')], opened; "
        "tinygrad_lite.data.digits(); "
        "assert [f for f in opened if f.endswith('.npz')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
