"""Pictures of a recorded graph. Nothing here is loaded before the first picture is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .diagram import Diagram
    from .explorer import Page


def draw(
    loss: Any,
    input: Any = None,
    *,
    direction: str = "LR",
    depth: int | None = None,
    budget: int = 36,
    expand_fused: bool = False,
) -> Diagram:
    """The recorded graph of `loss` as a `Diagram`: `.svg()`, `.save(path)`, a picture in Jupyter.

    A card per tensor: its name, the operation that computed it (two outlines: a fused one; ▪: it
    keeps values for the backward pass), its shape, its value, and its gradient (∇) in the last
    backward pass. Boxes are calls of modules and `tg.scope`. An arrow is as wide as the gradient
    that went back along it, and dotted where none did. Draw before `backward()` frees what it
    needs (small values always stay), or call `backward(retain_graph=True)`, to see all of that.

    Parameters
    ----------
    loss : a recorded Tensor; several, to see their graphs side by side; or a module.
    input : what to call a module with.
    direction : "LR", "TB", "RL" or "BT". depth : how many levels of boxes to open.
    expand_fused : draw the composition that each fused operation equals, in a box of its name.
    budget : about how many cards to show; in larger graphs look-alike and remote parts are one.

    >>> import tinygrad_lite as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> x.name = "x"
    >>> print(tg.draw(x * x).source.count("->"))
    1
    """
    from ..tensor import Tensor
    from .diagram import diagram

    if direction not in ("LR", "TB", "RL", "BT"):
        raise ValueError(f"draw: direction must be LR, TB, RL or BT, got {direction!r}")
    if callable(loss):
        loss = loss(input)
    losses = [loss] if isinstance(loss, Tensor) else list(loss)
    return diagram(losses, direction, depth, budget, expand_fused)


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
