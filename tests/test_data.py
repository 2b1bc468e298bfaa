"""What comes with the package: the right digits and words, as documented, read only when asked for."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from tinygrad_lite.data import alice, digits
from tinygrad_lite.data.alice import FILE as BOOK
from tinygrad_lite.data.digits import FILE

SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
BOOK_SHA256 = "99e53cbb0aeb274344a254733db996ca2d05d5fcd10fc0ca02d6966f2b2bc961"


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
        "assert not [f for f in opened if f.endswith(('.npz', '.xz'))], opened; "
        "tinygrad_lite.data.digits(); "
        "assert [f for f in opened if f.endswith('.npz')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_book():
    """Its checksum, that nothing but plain text is in it, and its first and last words."""
    text = alice()
    assert hashlib.sha256(text.encode()).hexdigest() == BOOK_SHA256
    assert len(text) == 148_480
    assert set(text) < {chr(i) for i in (10, *range(32, 127))}
    assert text.split()[:4] == ["ALICE'S", "ADVENTURES", "IN", "WONDERLAND"]
    assert text.endswith("happy summer days.\n\n                             THE END\n")
    assert text.count("CHAPTER ") == 12


def test_the_book_is_small_and_attributed():
    assert BOOK.stat().st_size < 50_000
    notice = BOOK.with_name("alice.md").read_text(encoding="utf-8").lower()
    for word in ("lewis carroll", "1865", "millennium fulcrum edition 2.9", "public domain"):
        assert word in notice
        assert word in alice.__doc__.lower()
