"""The backward pass in words: a ledger of every step, and the same steps as data.

The trick is that nothing is computed for the explanation: an observer writes down what the engine's
own loop does, cotangent by cotangent, so that what is printed is what `backward()` adds up.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .backward import ancestors, cotangent_for, gradients
from .mode import MODE, mode
from .tensor import Node, Tensor

FORMULAS: dict[str, tuple[str, ...]] = {  # elementwise: d out / d argument, as runnable NumPy
    "add": ("1", "1"),
    "subtract": ("1", "-1"),
    "multiply": ("y", "x"),
    "divide": ("1 / y", "-out / y"),
    "negative": ("-1",),
    "positive": ("1",),
    "power": ("y * x**(y - 1)", "out * log(x)"),
    "float_power": ("y * x**(y - 1)", "out * log(x)"),
    "mod": ("1", "-floor(x / y)"),
    "fmod": ("1", "-trunc(x / y)"),
    "exp": ("out",),
    "exp2": ("out * log(2)",),
    "expm1": ("out + 1",),
    "log": ("1 / x",),
    "log2": ("1 / (x * log(2))",),
    "log10": ("1 / (x * log(10))",),
    "log1p": ("1 / (1 + x)",),
    "sqrt": ("1 / (2 * out)",),
    "cbrt": ("1 / (3 * out**2)",),
    "square": ("2 * x",),
    "reciprocal": ("-1 / x**2",),
    "logaddexp": ("exp(x - out)", "exp(y - out)"),
    "logaddexp2": ("exp2(x - out)", "exp2(y - out)"),
    "sin": ("cos(x)",),
    "cos": ("-sin(x)",),
    "tan": ("1 + out**2",),
    "arcsin": ("1 / sqrt(1 - x**2)",),
    "arccos": ("-1 / sqrt(1 - x**2)",),
    "arctan": ("1 / (1 + x**2)",),
    "sinh": ("cosh(x)",),
    "cosh": ("sinh(x)",),
    "tanh": ("1 - out**2",),
    "arcsinh": ("1 / sqrt(x**2 + 1)",),
    "arccosh": ("1 / sqrt(x**2 - 1)",),
    "arctanh": ("1 / (1 - x**2)",),
    "hypot": ("x / out", "y / out"),
    "arctan2": ("y / (x**2 + y**2)", "-x / (x**2 + y**2)"),
    "deg2rad": ("pi / 180",),
    "radians": ("pi / 180",),
    "rad2deg": ("180 / pi",),
    "degrees": ("180 / pi",),
    "sinc": ("(cos(pi * x) - out) / x",),
    "absolute": ("sign(x)",),
    "fabs": ("sign(x)",),
    "copysign": ("sign(x) * sign(y)", "0 * y"),
    "maximum": ("(x > y) + (x == y) / 2", "(y > x) + (x == y) / 2"),
    "minimum": ("(x < y) + (x == y) / 2", "(y < x) + (x == y) / 2"),
    "fmax": ("(x > y) + (x == y) / 2", "(y > x) + (x == y) / 2"),
    "fmin": ("(x < y) + (x == y) / 2", "(y < x) + (x == y) / 2"),
    "relu": ("x > 0",),
    "sigmoid": ("out * (1 - out)",),
    "erf": ("2 / sqrt(pi) * exp(-(x**2))",),
    "variable": ("1",),
    "copy": ("1",),
    "astype": ("1",),
}
NOTHING = ("nothing",)
_NORM = ("(h - mean(h) - x̂ mean(h x̂)) / √(var + eps), h = g * w", "the sum of g x̂", "the sum of g")
WORDS: dict[str, tuple[str, ...]] = {  # everything else: what happens to the cotangent g
    "where": ("nothing", "g where the condition holds, else 0", "g where it does not hold, else 0"),
    "clip": ("g inside the bounds, else 0", "g below the lower bound", "g above the upper bound"),
    "nan_to_num": ("g where x is finite, else 0",),
    "sum": ("g for every entry that was summed",),
    "mean": ("g / n for each of the n entries averaged",),
    "max": ("g at the largest entry (ties share it), else 0",),
    "min": ("g at the smallest entry (ties share it), else 0",),
    "var": ("g * 2 (x - mean) / (n - ddof)",),
    "std": ("g * (x - mean) / ((n - ddof) out)",),
    "prod": ("g * the product of all the other entries",),
    "cumsum": ("the sum of g from this entry to the end",),
    "cumprod": ("the sum over later outputs of g * the product of the other entries",),
    "logsumexp": ("g * exp(x - out), the softmax of x",),
    "broadcast_to": ("the sum of g over the copies",),
    "matmul": ("g @ y.T", "x.T @ g"),
    "index_update": ("g, but 0 at the index", "g at the index"),
    "index_add": ("g", "g at the index"),
    "checkpoint": (),
    "gelu": ("g * (P(z < x) + x times its density), z standard normal",),
    "gelu_tanh": ("g * the slope of x (1 + tanh u) / 2, u = √(2/π) (x + 0.044715 x³)",),
    "silu": ("g * s (1 + x (1 - s)), s = sigmoid(x)",),
    "softplus": ("g * sigmoid(beta x), or g above the threshold",),
    "linear": ("g @ w", "g.T @ x", "the sum of g over the samples"),
    "linear_relu": ("h @ w, h = g where out > 0", "h.T @ x", "the sum of h over the samples"),
    "dropout": ("g * scale where x was kept, else 0", "nothing"),
    "embedding": ("nothing", "the rows of g, added to the rows that they came from"),
    "sum_rows": ("for each row the row of g that it was added to", "nothing"),
    "layer_norm": _NORM,
    "batch_norm": _NORM,
    "group_norm": _NORM,
    "rms_norm": ("(h - x̂ mean(h x̂)) / rms, h = g * weight", "the sum of g x̂"),
    "attention": (
        "scale ds @ k, ds = p (dp - sum(g out)), dp = g @ v.T, p the softmax",
        "scale ds.T @ q",
        "p.T @ g",
        "ds",
        "nothing",
    ),
    "softmax": ("out * (g - the sum of g * out)",),
    "log_softmax": ("g - softmax(x) * the sum of g",),
    "clamped_log": ("g / x",),
    "squared_difference": ("g * scale * 2 (y - t)", "-g * scale * 2 (y - t)", "nothing"),
    "cross_entropy": ("g * scale * (softmax(x) - onehot)", "nothing", "nothing"),
    "soft_cross_entropy": ("g * (softmax(x) - q)", "-g * log_softmax(x)"),
    "sigmoid_cross_entropy": ("g * weight * (sigmoid(x) - t)", "-g * weight * x", *NOTHING * 2),
    "l1_loss": ("g * scale * sign(y - t)", "-g * scale * sign(y - t)", "nothing"),
    "smooth_l1_loss": ("g * scale * clip((y - t) / beta, -1, 1)", "the opposite", "nothing"),
    "huber_loss": ("g * scale * clip(y - t, -delta, delta)", "the opposite", "nothing"),
    "binary_cross_entropy": (
        "g * scale * (p - t) / (p (1 - p))",
        "g * scale * log((1 - p) / p)",
        "nothing",
    ),
    "kl_div": ("-g * scale * t", "g * scale * (log t + 1 - x)", "nothing"),
    "poisson_nll_loss": ("g * scale * (exp(x) - t)", "-g * scale * x", "nothing"),
    "gaussian_nll_loss": (
        "g * scale * (y - t) / v",
        "-g * scale * (y - t) / v",
        "g * scale * (1 - (y - t)**2 / v) / 2v",
        "nothing",
    ),
    "hinge_embedding_loss": ("g * scale, or its opposite inside the margin", *NOTHING * 2),
    "soft_margin_loss": ("-g * scale * t * sigmoid(-t x)", *NOTHING * 2),
    "margin_ranking_loss": (
        "-g * scale * t inside the margin",
        "g * scale * t inside the margin",
        *NOTHING * 2,
    ),
    "focal_loss": (
        "g * scale * alpha' (m**gamma (p - t) + gamma m**(gamma-1) L (1 - 2t) p (1 - p))",
        *NOTHING * 2,
    ),
    "nll_loss": ("-g * scale * onehot", *NOTHING * 2),
    "multi_margin_loss": (
        "g * scale for each class inside the margin, minus their sum for t",
        *NOTHING * 2,
    ),
    "cosine_embedding_loss": ("g * scale * d cos / dx", "g * scale * d cos / dy", *NOTHING * 2),
    "triplet_margin_loss": (
        "g * scale * (the unit vector from p, minus that from n)",
        "g * scale * the unit vector from a",
        "-g * scale * that",
        "nothing",
    ),
    "conv": ("conv_input(g, w)", "conv_weight(x, g)"),
    "conv_input": ("conv(g, w)", "conv_weight(g, y)"),
    "conv_weight": ("conv_input(y, g)", "conv(x, g)"),
    "conv_bias": ("conv_input(g, w)", "conv_weight(x, g)", "the sum of g over batch and space"),
    "max_pool": ("g at the first largest entry of each window, else 0",),
    "max_pool_input": ("g at the first largest entry of each window of x", *NOTHING * 2),
    "tap_sum": ("the sum of g over the windows that an entry is in",),
}
BACK = "every entry of g goes back to where the value came from"


def rule(op: str, i: int) -> str:
    """What a step does to its cotangent g for argument i, in x (the first), y (the last), out."""
    if op in FORMULAS:
        text = FORMULAS[op][i]
        return f"g * ({text})" if " " in text else f"g * {text}"
    words = WORDS.get(op)
    return BACK if words is None else words[i] if i < len(words) else f"the rule of {op}"


def local_derivative(node: Node, i: int, label: dict[Node, str]) -> str:
    """The same in the labels of the graph, where it is a formula."""
    text = rule(node.name, i)
    if node.name not in FORMULAS:
        return text
    names = {"x": argument(node, 0, label), "y": argument(node, -1, label), "out": label[node]}
    return re.sub(r"\b(x|y|out)\b", lambda m: names[m[0]], text)


@dataclass(frozen=True)
class Contribution:
    """What one step sends to one argument: `value` = cotangent times local derivative."""

    parent: Node
    label: str
    local: str
    slope: Any  # the local derivative as a number, where both sides are numbers; else None
    value: Any
    arrival: int  # the arrival-th of `of` contributions to this parent
    of: int
    total: Any  # their sum so far


@dataclass(frozen=True)
class Step:
    """One node of the backward pass, when its whole cotangent has arrived."""

    node: Node
    label: str
    op: str
    shape: tuple[int, ...]
    cotangent: Any
    contributions: list[Contribution] = field(default_factory=list)


class Recorder:
    """Writes down what the backward pass does: each node, its cotangent, what it sends where."""

    def __init__(self) -> None:
        self.visits: list[tuple[Node, Any, list[tuple[int, Any]]]] = []

    def forward(self, *_: Any) -> None:
        """Nothing runs forward in a backward pass on arrays."""

    def before_rules(self, node: Node, g: Any) -> None:
        self.visits.append((node, np.array(g), []))

    def contribution(self, node: Node, i: int, g: Any, piece: Any) -> None:
        self.visits[-1][2].append((i, np.array(piece)))


def labels(nodes: list[Node]) -> dict[Node, str]:
    """A short label for every node: its name, or `v1`, `v2`, ... in the order of computation."""
    numbers = iter(range(1, len(nodes) + 1))
    return {node: node.label if node.label is not None else f"v{next(numbers)}" for node in nodes}


def backward_steps(loss: Tensor, gradient: Any = None) -> Iterator[Step]:
    """The backward pass, step by step, youngest node first; touches no `.grad`, frees nothing.

    Parameters
    ----------
    loss : a recorded Tensor. gradient : its cotangent, as in `backward`.

    Yields
    ------
    Step : a node with its whole cotangent and what it sends to each argument. Leaves come last,
        with no contributions: their cotangent is what `backward()` adds to `.grad`.

    >>> import tinygrad_lite as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> for step in tg.backward_steps(x * x):
    ...     print(step.op, step.cotangent, [c.value for c in step.contributions])
    multiply 1.0 [array(3.), array(3.)]
    leaf 6.0 []
    """
    if loss._node is None:
        raise RuntimeError(
            "explain: this tensor is a constant, so there is no backward pass to explain"
        )
    order = ancestors([loss._node])
    label = labels(order)
    recorder = Recorder()
    with mode(record=False, observers=(*MODE.get().observers, recorder)):
        found = gradients({loss._node: cotangent_for(loss, gradient)})
    of: Counter[Node] = Counter(
        node.parents[i] for node, _, sent in recorder.visits for i, _ in sent
    )
    arrivals: Counter[Node] = Counter()
    totals: dict[Node, Any] = {}
    for node, g, sent in recorder.visits:
        contributions = []
        for i, piece in sent:
            parent = node.parents[i]
            arrivals[parent] += 1
            totals[parent] = totals[parent] + piece if parent in totals else piece
            slope = None
            if g.ndim == piece.ndim == 0 and node.primitive.joint is None:
                slope = node.primitive.rules[i](
                    node.dtype.type(1), node.out, *node.args, **node.params
                )
            local = local_derivative(node, i, label)
            count = arrivals[parent], of[parent], totals[parent]
            contributions.append(Contribution(parent, label[parent], local, slope, piece, *count))
        yield Step(node, label[node], node.name, node.shape, g, contributions)
    for node in order:
        if node.primitive is None and node in found:
            yield Step(node, label[node], "leaf", node.shape, np.array(found[node]))


def explain(loss: Tensor, gradient: Any = None) -> None:
    """Print the backward pass as a ledger.

    For every step, youngest first: the operation, its cotangent g (the derivative of the loss by
    its result), and for every argument the local derivative, the contribution that it makes, and
    the running sum where a value was used several times. It ends with what `backward()` adds to
    each leaf.

    >>> import tinygrad_lite as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> x.name = "x"
    >>> tg.explain(x * x + x)
    backward pass of v2 = 12: 2 operations
    1. v2 = add(v1, x) = 12
         g = 1
         to v1: g * 1 = 1 * 1 = 1
         to x: g * 1 = 1 * 1 = 1, arrival 1 of 3, sum 1
    2. v1 = multiply(x, x) = 9
         g = 1
         to x: g * x = 1 * 3 = 3, arrival 2 of 3, sum 4
         to x: g * x = 1 * 3 = 3, arrival 3 of 3, sum 7
    leaves
         x = 3, x.grad = 7
    """
    steps = list(backward_steps(loss, gradient))
    label = {c.parent: c.label for step in steps for c in step.contributions}
    label |= {step.node: step.label for step in steps}
    operations = [step for step in steps if step.op != "leaf"]
    print(f"backward pass of {steps[0].label}{_value(steps[0].node)}: {len(operations)} operations")
    for number, step in enumerate(operations, 1):
        arguments = ", ".join(argument(step.node, i, label) for i in range(len(step.node.parents)))
        print(f"{number}. {step.label} = {step.op}({arguments}){_value(step.node)}")
        print(f"     g = {show(step.cotangent)}")
        for c in step.contributions:
            numbers = "" if c.slope is None else f" = {show(step.cotangent)} * {show(c.slope)}"
            count = "" if c.of == 1 else f", arrival {c.arrival} of {c.of}, sum {show(c.total)}"
            print(f"     to {c.label}: {c.local}{numbers} = {show(c.value)}{count}")
    print("leaves")
    for step in steps[len(operations) :]:
        print(f"     {step.label}{_value(step.node)}, {step.label}.grad = {show(step.cotangent)}")


def argument(node: Node, i: int, label: dict[Node, str]) -> str:
    """How argument `i` of a step is written: a label, a constant's name, or its value."""
    parent = node.parents[i]
    if isinstance(parent, Node):
        return label[parent]
    if isinstance(parent, Tensor):
        return str(parent.name)
    value = node.args[i]
    small = not hasattr(value, "dtype") or value.size <= 3
    return show(value) if small else f"array{value.shape}"


def _value(node: Node) -> str:
    return f" = {show(node.out)}"


def show(value: Any) -> str:
    """A number, up to three entries, or dtype, shape and root mean square."""
    if not hasattr(value, "dtype"):
        return repr(value)
    if not hasattr(value, "__array__"):
        return f"{value.dtype} {value.shape}"
    array = np.asarray(value)
    if array.ndim == 0:
        return f"{array[()]:.4g}"
    if array.size <= 3:
        return np.array2string(
            array, separator=", ", formatter={"float": lambda x: f"{x:.4g}"}, max_line_width=200
        ).replace("\n", "")
    return f"{array.dtype} {array.shape}, rms {rms(array):.4g}"


def rms(array: Any) -> float:
    """The root mean square of the entries: their usual size."""
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.mean(np.square(np.abs(array.astype(float))))))
