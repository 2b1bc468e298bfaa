"""A book that comes with the package, to train on letters.

The one trick: plain ASCII text compresses to a third; `alice.md` beside it says whose it is.
"""

from pathlib import Path

FILE = Path(__file__).with_name("alice.txt.xz")


def alice() -> str:
    r"""The text of Lewis Carroll's "Alice's Adventures in Wonderland", lines ending in "\n".

    Source: London: Macmillan, 1865, as typed for the "Millennium Fulcrum Edition 2.9" of Project
    Gutenberg. Licence: public domain (the author died in 1898).

    >>> from tinygrad_lite.data import alice
    >>> text = alice()
    >>> len(text), len(set(text)), " ".join(text.split()[:7])
    (148480, 72, "ALICE'S ADVENTURES IN WONDERLAND Lewis Carroll THE")
    """
    import lzma  # here, as some builds of Python lack it

    return lzma.decompress(FILE.read_bytes()).decode("ascii")
