"""What a recording refuses, and the line of the user's code that asked for it."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import numpy as np

PACKAGE, NUMPY = (str(Path(p).parent) for p in (Path(__file__).resolve().parent, np.__file__))


class TraceError(TypeError):
    """What a function does depends on numbers, so that one recording cannot stand for all calls."""


class NumbersError(TraceError):
    """Something wants the numbers of an array: perhaps a plain array that the function makes."""


class NoAttributeError(TraceError, AttributeError):
    """An attribute of arrays that has no place in a recording; `hasattr` says no."""


class UserLine(NamedTuple):
    """A line of the user's code; its text is looked up only to show it."""

    file: str
    number: int

    def __str__(self) -> str:
        import linecache

        text = linecache.getline(self.file, self.number).strip()
        return f"{self.file}, line {self.number}: {text}"


_line = functools.cache(UserLine)


@functools.cache
def is_ours(file: str) -> bool:
    return file.startswith((PACKAGE, NUMPY))


def user_line() -> UserLine:
    """Where the user's code is at the moment."""
    frame = user_frame()[0]
    return _line(frame.f_code.co_filename, frame.f_lineno)


def user_frame() -> tuple[FrameType, set[str]]:
    """The frame of the user's code, and the names of the functions of ours in between."""
    frame, names = sys._getframe(1), set()
    while frame.f_back is not None and is_ours(frame.f_code.co_filename):
        names.add(frame.f_code.co_name)
        frame = frame.f_back
    return frame, names
