"""Pictures of a recorded graph. Nothing here is loaded before the first picture is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .diagram import Diagram
    from .explorer import Page


def draw(
    loss: Any = None,
    input: Any = None,
    *,
    compare: Sequence[Any] = (),
    direction: str = "LR",
    depth: int | None = None,
    budget: int = 36,
    expand_fused: bool = False,
    theme: str = "light",
) -> Diagram:
    """The recorded graph of `loss` as a `Diagram`: `.svg()`, `.save(path)`, a picture in Jupyter.

    A card per tensor: its name, the operation that computed it (two outlines: a fused one; ▪: it
    keeps values for the backward pass), its shape, its value, and its gradient (∇) in the last
    backward pass. Boxes are calls of modules and `tg.scope`. An arrow is as wide as the gradient
    that went back along it, and dotted where none did. Draw before `backward()` frees what it
    needs (small values always stay), or call `backward(retain_graph=True)`, to see all of that.

    Parameters
    ----------
    loss : a recorded Tensor; several, for one graph of them all; or a module.
    input : what to call a module with.
    compare : instead of `loss`, several: the whole graph of each in a box of its name or operation.
        What they share is in each box, with that loss's gradient (`.grad` where values are gone).
    direction : "LR", "TB", "RL" or "BT". depth : how many levels of boxes to open.
    expand_fused : draw the composition that each fused operation equals, in a box of its name.
    budget : about how many cards to show; in larger graphs look-alike and remote parts are one.
    theme : "light" or "dark".

    >>> import tinygrad_lite as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> x.name = "x"
    >>> print(tg.draw(x * x).source.count("->"))
    1
    """
    from ..tensor import Tensor
    from .diagram import diagram

    if (loss is None) == (not compare):
        raise ValueError("draw: expected a loss or compare=[one, another], and not both")
    if direction not in ("LR", "TB", "RL", "BT"):
        raise ValueError(f"draw: direction must be LR, TB, RL or BT, got {direction!r}")
    if theme not in ("light", "dark"):
        raise ValueError(f"draw: theme must be light or dark, got {theme!r}")
    given = compare or ([loss] if isinstance(loss, Tensor) or callable(loss) else loss)
    losses = [item(input) if callable(item) else item for item in given]
    return diagram(losses, bool(compare), direction, depth, budget, expand_fused, theme)


def explore(loss: Any, path: Any = None, *, title: str | None = None) -> Page:
    """A page that steps through the forward and the backward pass of a recorded `loss`.

    One self-contained HTML file, with no network: it opens with the finished picture; the arrow
    keys step, and a panel shows each step in numbers. Call it before `backward()` frees the graph.

    Parameters
    ----------
    loss : a recorded Tensor. path : the file to write; None writes none (see `.save(path)`).
    title : the heading; by default the loss's name.
    """
    from .explorer import explore

    return explore(loss, path, title=title)
