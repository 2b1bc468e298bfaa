"""Where randomness comes from: one generator for the package, unless a call names its own.

Everything random here (initial weights, dropout, shuffling) takes `rng=`, a NumPy Generator, and
otherwise draws from the package's generator, which `tg.manual_seed` starts at a known point.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .mode import MODE, refuse_recording

_generator = np.random.default_rng()


def generator(rng: np.random.Generator | None = None) -> np.random.Generator:
    """The given generator, or the package's."""
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"rng must be a NumPy Generator, got {type(rng).__name__}: "
            "pass rng=np.random.default_rng(0)"
        )
    chosen = _generator if rng is None else rng
    tracer = MODE.get().tracer
    return chosen if tracer is None else tracer.generator(chosen)


def manual_seed(seed: int) -> np.random.Generator:
    """Start the package's generator anew, so that what follows is repeatable; returns it.

    >>> import tinygrad_lite as tg
    >>> a, b = tg.manual_seed(1).random(), tg.manual_seed(1).random()
    >>> a == b
    True
    """
    refuse_recording("manual_seed")
    _generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    return _generator


def get_rng_state() -> dict[str, Any]:
    """The state of the package's generator, as `tg.save` can keep it."""
    return dict(_generator.bit_generator.state)


def set_rng_state(state: dict[str, Any]) -> None:
    """Put the package's generator back where `get_rng_state` found it."""
    refuse_recording("set_rng_state")
    _generator.bit_generator.state = state
