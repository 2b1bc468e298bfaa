"""Pictures of a recorded graph. Nothing here is loaded before the first picture is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import graphviz

    from ..tensor import Tensor


def draw(loss: Tensor | Sequence[Tensor], limit: int = 200) -> graphviz.Digraph:
    """The recorded graph of `loss` as a `graphviz.Digraph`, which Jupyter shows as a picture.

    A card per tensor: its name, the operation that computed it, its shape, and, while they are
    small, its value and its gradient (∇) in the last backward pass. Call it after `backward()` to
    see gradients. `.source` is the DOT text; `.render(...)` and `.pipe(...)` need the program `dot`
    (Debian and Ubuntu: `apt install graphviz`; macOS: `brew install graphviz`).

    Parameters
    ----------
    loss : a recorded Tensor, or several, to see their graphs side by side.
    limit : refuse graphs of more nodes than this: `dot` takes minutes for them, and nobody reads
        them.

    >>> import tinygrad_lite as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> x.name = "x"
    >>> print(tg.draw(x * x).source.count("->"))
    2
    """
    from ..tensor import Tensor
    from .diagram import diagram

    return diagram([loss] if isinstance(loss, Tensor) else list(loss), limit)
