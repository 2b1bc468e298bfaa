"""Tensor, Node, and how an operation is recorded.

A `Tensor` is what a user holds; a `Node` is one step of the recorded graph. The trick is that they
are two objects: a Node never refers to a Tensor that refers to it, so nothing here is a reference
cycle, and a Tensor that is dropped frees its array at once, unless a gradient rule still needs it.

NumPy itself is the interface: `np.exp(t)` reaches `Tensor.__array_ufunc__`, `np.sum(t)` reaches
`Tensor.__array_function__`, and both end in `apply`, which runs a primitive and records its Node.
"""

from __future__ import annotations

import itertools
import math
import warnings
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from . import more_primitives as more
from . import primitives as p
from .array_methods import ArrayMethods, plain
from .array_methods import raw as raw
from .conversion import as_array, explained, operand
from .mode import MODE, RECORDING, SCOPE, Scope
from .primitives import Primitive

SMALL = 64  # values of up to this many entries always stay with their Node: diagrams show them
SCALARS = frozenset({bool, int, float, complex, type(None), *np.sctypeDict.values()})
LIGHT, HEAVY, FREED = 0, 1, 2  # a Node's state: heavy ones hold arrays to free after backward

NOTHING: dict[str, Any] = {}  # no params; never written
births = itertools.count()  # an argument is always born before its result


class Spec:
    """What is left of an array that nobody needed: its shape and dtype."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Node:
    """One step of the recorded graph.

    `primitive` (None for a leaf), `parents` (per argument: a Node, a named constant Tensor, or
    None), `args` and `out` (values that the rules or a diagram need; a `Spec` stands for the
    others), `params`, `birth` (its place in the order of recording), `scope` (the part of the
    program that recorded it), `holder` (weak: the Tensor whose `.grad` to fill), `label` (that
    Tensor's name), `cotangent` (of the last backward pass, kept while small, for diagrams only),
    `state`.

    The first two parents have slots of their own: a tuple would be a second object per step for
    Python's garbage collector to walk, which takes most of the time in graphs of a million steps.
    """

    # fmt: off
    __slots__ = ("__weakref__", "args", "birth", "changed", "cotangent", "holder", "label", "left",
                 "others", "out", "params", "primitive", "right", "scope", "state")
    # fmt: on
    changed: int  # of a leaf: when its array was last written into, in births

    def __init__(
        self, primitive: Any, left: Any, right: Any, others: Any, args: Any, params: Any, out: Any
    ) -> None:
        self.primitive = primitive
        self.left = left
        self.right = right
        self.others = others
        self.args = args
        self.params = params
        self.out = out
        self.birth = next(births)
        self.scope: Scope | None = SCOPE.get()
        self.holder: weakref.ref[Tensor] | None = None
        self.label: str | None = None
        self.cotangent: Any = None
        self.state = LIGHT

    @property
    def parents(self) -> tuple[Any, ...]:
        return (self.left, self.right, *self.others)[: len(self.args)]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.out.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.out.dtype  # type: ignore[no-any-return]

    @property
    def name(self) -> str:
        """The operation."""
        return self.primitive.name if self.primitive else "leaf"

    def thin(self) -> None:
        """Drop the arrays that no rule will read."""
        self.state = HEAVY
        saves = self.primitive.saves
        if saves is None:
            return
        wanted: set[int] = set()
        for i, parent in enumerate(self.parents):
            if parent.__class__ is Node:
                wanted.update(saves[0 if self.primitive.joint else i])
        self.args = tuple([v if i in wanted else _spec(v) for i, v in enumerate(self.args)])
        if -1 not in wanted:
            self.out = _spec(self.out)

    def free(self) -> None:
        """Drop every saved array, after the only backward pass that needed it."""
        self.args = tuple([_spec(v) for v in self.args])
        self.out = _spec(self.out)

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.dtype} {self.shape}>"


def _spec(value: Any) -> Any:
    """The value while it is small, else its shape and dtype."""
    if value.__class__ is Spec or value.__class__ in SCALARS or value.size <= SMALL:
        return value
    return Spec(value.shape, value.dtype)


def apply(primitive: Primitive, args: Any, params: dict[str, Any] = NOTHING) -> Tensor:
    """Run a primitive on Tensors, arrays and scalars; record its Node if one needs a gradient."""
    values, parents, tracked, big = [], [], False, False
    mode = MODE.get()
    for value in args:
        parent: Any = None
        if isinstance(value, Tensor):
            parent = value._node
            if parent is not None:
                tracked = True
            elif value._name is not None:
                parent = value
            source, value = value, value._data
            if mode.tracer is not None:
                value = mode.tracer.lift(value, source)
        elif value.__class__ not in SCALARS:
            value = operand(value)
        if value.__class__ not in SCALARS and value.size > SMALL:
            big = True
        values.append(value)
        parents.append(parent)
    try:
        out = primitive.forward(*values, **params)
    except (ValueError, TypeError, IndexError) as error:
        raise explained(error, primitive.name, values) from error
    if out.__class__ not in SCALARS:
        if out.size > SMALL:
            big = True
        elif out.ndim == 0:
            out = out[()]  # NumPy scalars compute several times faster than 0-d arrays
    elif out.__class__ is float:  # from a user's own function
        out = np.float64(out)
    result = Tensor.__new__(Tensor)
    result._data = out
    result._node = node = None
    result._grad = result._name = None
    if tracked and mode.record:
        if out.dtype.kind == "c":
            raise TypeError(f"{primitive.name}: complex numbers are not differentiable here yet")
        left, right = (*parents, None)[:2]
        others = tuple(parents[2:])
        result._node = node = Node(primitive, left, right, others, tuple(values), params, out)
        if big and mode.tracer is None:  # a recording looks into its graph before it walks it
            node.thin()
    for observer in mode.observers:
        observer.forward(primitive, values, params, out, node)
    return result


def operate(primitive: Primitive, x: Any, y: Any) -> Tensor:
    """`apply` for an operator between two tracked Tensors, without the loop over its arguments.

    The commonest case: this takes a third off the time of a small operation, and half on scalars.
    """
    if isinstance(x, Tensor) and isinstance(y, Tensor) and MODE.get() is RECORDING:
        left, right, a, b = x._node, y._node, x._data, y._data
        if left is not None and right is not None:
            try:
                out = primitive.forward(a, b)
            except (ValueError, TypeError) as error:
                raise explained(error, primitive.name, [a, b]) from error
            node = Node(primitive, left, right, (), (a, b), NOTHING, out)
            if out.size > SMALL or a.size > SMALL or b.size > SMALL:
                node.thin()
            return constant(out, node)
    return apply(primitive, (x, y))


class Tensor(ArrayMethods):
    """An array that remembers how it was computed. `tg.tensor(...)` makes one.

    Arithmetic, indexing and NumPy functions on Tensors work as on arrays; while one of the
    arguments requires a gradient, each is recorded, and `backward()` walks the record.
    """

    __slots__ = ("__weakref__", "_data", "_grad", "_name", "_node")

    _data: Any
    _node: Node | None
    _grad: Tensor | None
    _name: str | None

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        if isinstance(data, Tensor) and data._node is not None:
            raise TypeError(
                "tensor(t) would cut t out of its graph silently: use t itself, or t.detach()"
            )
        array = as_array(data.data if isinstance(data, Tensor) else data, dtype, copy=True)
        self._data = array[()] if array.ndim == 0 else array
        self._node = self._grad = self._name = None
        if requires_grad:
            self.requires_grad_()

    # What it is

    @property
    def data(self) -> Any:
        """The array (a NumPy scalar when 0-d). Writing into it is not recorded."""
        tracer = MODE.get().tracer
        return self._data if tracer is None else tracer.lift(self._data, self)

    @data.setter
    def data(self, value: Any) -> None:
        if self._node is not None and not self.is_leaf:
            raise RuntimeError(
                "the data of a computed tensor cannot be replaced: its graph would not notice"
            )
        if (tracer := MODE.get().tracer) is not None:
            return tracer.replace_data(self, value)  # type: ignore[no-any-return]
        value = as_array(value._data if isinstance(value, Tensor) else value)
        if self._node is not None and (value.shape, value.dtype) != (self.shape, self.dtype):
            raise ValueError(
                f"data of a tensor that requires grad must stay {self.dtype} {self.shape}, "
                f"got {value.dtype} {value.shape}"
            )
        self._data = value[()] if value.ndim == 0 else value
        if self._node is not None:
            self._node.out = self._data

    @property
    def requires_grad(self) -> bool:
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    @property
    def is_leaf(self) -> bool:
        """Not computed from something that requires a gradient."""
        return self._node is None or (
            self._node.primitive is None and self._node.holder is not None
        )

    @property
    def grad_fn(self) -> Node | None:
        """The recorded step that computed it; None for a leaf."""
        return None if self.is_leaf else self._node

    @property
    def grad(self) -> Tensor | None:
        """The sum of the gradients of all backward passes since it was None; for leaves only."""
        if self._grad is None and not self.is_leaf and self._node.holder is None:  # type: ignore[union-attr]
            warnings.warn(
                "only leaves keep .grad, and this tensor was computed: call t.retain_grad() before "
                "backward()",
                UserWarning,
                stacklevel=2,
            )
        if (tracer := MODE.get().tracer) is not None:
            tracer.read_gradient(self)
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None and np.shape(value) != self.shape:
            raise ValueError(
                f"the gradient of a {self.shape} tensor cannot have shape {np.shape(value)}"
            )
        if (tracer := MODE.get().tracer) is not None:
            tracer.keep_gradient(self, value)
        self._grad = (
            value if value is None or isinstance(value, Tensor) else Tensor(value, dtype=self.dtype)
        )

    @property
    def name(self) -> str | None:
        """A label for diagrams, ledgers and error messages."""
        return self._name

    @name.setter
    def name(self, value: str | None) -> None:
        self._name = value
        if self._node is not None:
            self._node.label = value

    # Gradients

    backward: ClassVar[Callable[..., None]]  # defined, and set, in backward.py

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Make a leaf whose gradient `backward()` collects, or a constant."""
        if requires_grad and self._node is None:
            if self.dtype.kind != "f":
                raise TypeError(
                    f"only floating point tensors can require gradients, got {self.dtype}: "
                    "write 1.0 instead of 1, or pass dtype=float"
                )
            self._node = leaf_node(self._data)
            self._node.holder, self._node.label = weakref.ref(self), self._name
        elif not requires_grad:
            if not self.is_leaf:
                raise RuntimeError("a computed tensor leaves its graph with t.detach()")
            self._node = None
        return self

    def retain_grad(self) -> None:
        """Keep `.grad` of a computed tensor too."""
        if self._node is None:
            raise RuntimeError("retain_grad: this tensor does not require a gradient")
        self._node.holder = self._node.holder or weakref.ref(self)

    def zero_grad(self) -> None:
        """Forget the accumulated gradient (sets it to None)."""
        self.grad = None

    def detach(self) -> Tensor:
        """A constant Tensor on the same data, outside the graph."""
        return constant(self.data)

    def numpy(self) -> np.ndarray[Any, Any]:
        """The data as an ndarray (the same memory, unless 0-d), outside the graph."""
        return np.asarray(self.data)

    def item(self) -> Any:
        """The one entry as a Python number."""
        if self.size != 1:
            raise ValueError(
                f"only a tensor of one entry is a Python number; this one has shape {self.shape}"
            )
        return self.data.item()

    # NumPy's protocols

    __array_ufunc__: ClassVar[Any]  # defined, and set, in dispatch.py
    __array_function__: ClassVar[Any]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if self._node is not None:
            raise TypeError(
                "turning a tracked Tensor into an array would cut the graph silently: use "
                "t.detach() or t.numpy() to leave the graph, np.stack([...]) to combine tensors, "
                "tg.index_update to assign"
            )
        return np.array(self.data, dtype=dtype, copy=copy)

    @staticmethod
    def _call_primitive(
        primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]
    ) -> Tensor:
        n = len(args) if primitive.joint else len(primitive.rules)
        if len(args) > n:
            params = dict(zip(primitive.params, args[n:], strict=False)) | params
        if len(args) < n or not params.keys() <= set(primitive.params):
            raise TypeError(
                f"{primitive.name} takes {n} arrays and the parameters {primitive.params}, "
                f"got {len(args)} positional arguments and {sorted(params)}"
            )
        return apply(primitive, args[:n], plain(primitive.name, params))

    # Operators. Each pair works with arrays and Python scalars on either side.
    # fmt: off
    def __add__(self, other: Any) -> Tensor: return operate(p.add, self, other)
    def __radd__(self, other: Any) -> Tensor: return operate(p.add, other, self)
    def __sub__(self, other: Any) -> Tensor: return operate(p.subtract, self, other)
    def __rsub__(self, other: Any) -> Tensor: return operate(p.subtract, other, self)
    def __mul__(self, other: Any) -> Tensor: return operate(p.multiply, self, other)
    def __rmul__(self, other: Any) -> Tensor: return operate(p.multiply, other, self)
    def __truediv__(self, other: Any) -> Tensor: return operate(p.divide, self, other)
    def __rtruediv__(self, other: Any) -> Tensor: return operate(p.divide, other, self)
    def __pow__(self, other: Any) -> Tensor: return operate(p.power, self, other)
    def __rpow__(self, other: Any) -> Tensor: return operate(p.power, other, self)
    def __mod__(self, other: Any) -> Tensor: return apply(more.mod, (self, other))
    def __rmod__(self, other: Any) -> Tensor: return apply(more.mod, (other, self))
    def __matmul__(self, other: Any) -> Tensor: return operate(p.matmul, self, other)
    def __rmatmul__(self, other: Any) -> Tensor: return operate(p.matmul, other, self)
    def __floordiv__(self, other: Any) -> Any: return np.floor_divide(self, other)
    def __rfloordiv__(self, other: Any) -> Any: return np.floor_divide(other, self)
    def __divmod__(self, other: Any) -> Any: return self // other, self % other
    def __rdivmod__(self, other: Any) -> Any: return other // self, other % self
    def __neg__(self) -> Tensor: return apply(p.negative, (self,))
    def __pos__(self) -> Tensor: return apply(p.positive, (self,))
    def __abs__(self) -> Tensor: return apply(p.absolute, (self,))

    def __iadd__(self, other: Any) -> Tensor: return _in_place(self, p.add, other)
    def __isub__(self, other: Any) -> Tensor: return _in_place(self, p.subtract, other)
    def __imul__(self, other: Any) -> Tensor: return _in_place(self, p.multiply, other)
    def __itruediv__(self, other: Any) -> Tensor: return _in_place(self, p.divide, other)
    def __ipow__(self, other: Any) -> Tensor: return _in_place(self, p.power, other)
    def __imod__(self, other: Any) -> Tensor: return _in_place(self, more.mod, other)

    def __float__(self) -> float: return float(_number(self))
    def __int__(self) -> int: return int(_number(self))
    # fmt: on

    def __getitem__(self, index: Any) -> Tensor:
        return apply(p.getitem, (self,), {"index": raw(index)})

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            "x[index] = value would change a value that the graph may need: write "
            "x = tg.index_update(x, index, value), or, to set a parameter, x.data[index] = value"
        )

    def astype(self, dtype: Any) -> Tensor:
        """A conversion that passes gradients on; one to integers or booleans is a constant."""
        kind = np.dtype(dtype).kind
        if kind in "biu":
            return constant(self.data.astype(dtype))
        return apply(p.astype, (self,), {"dtype": np.dtype(dtype)})

    def __repr__(self) -> str:
        values = np.array2string(
            np.asarray(self._data), separator=", ", prefix="tensor(", threshold=200
        )
        parts = [values, f"dtype={self.dtype}"]
        if self._name is not None:
            parts.append(f"name={self._name!r}")
        if self._node is not None:
            parts.append("requires_grad=True" if self.is_leaf else f"from={self._node.name}")
        return f"tensor({', '.join(parts)})"


def tensor(data: Any, requires_grad: bool = False, dtype: Any = None) -> Tensor:
    """A Tensor holding a copy of `data`.

    Parameters
    ----------
    data : a number, nested lists of equal lengths, an array, or a constant Tensor. NumPy's dtypes.
    requires_grad : whether `backward()` collects a gradient for it; floating point only.
    dtype : converts.

    Raises
    ------
    TypeError : integers that require a gradient, objects, strings, masked arrays, tracked Tensors.
    ValueError : ragged lists.

    >>> import tinygrad_lite as tg
    >>> x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4., 6.], dtype=float64)
    """
    return Tensor(data, requires_grad, dtype)


def leaf_node(data: Any) -> Node:
    """A Node that was not computed: of a leaf, or of a transform's variable."""
    node = Node(None, None, None, (), (), NOTHING, data)
    node.changed = 0
    return node


def changed(t: Tensor) -> None:
    """Note that a leaf's array was written into: steps that saved it have lost their values."""
    if t._node is not None:
        t._node.changed = next(births)


def constant(value: Any, node: Node | None = None) -> Tensor:
    """A Tensor around `value` itself, with no copy and no check: the engine's own constructor."""
    t = Tensor.__new__(Tensor)
    t._data, t._node, t._grad, t._name = value, node, None, None
    return t


def _number(t: Tensor) -> Any:
    """The one entry, for float(t); refused where it would cut a derivative off silently."""
    if t._node is not None and MODE.get().transform:
        raise TypeError(
            "float(t), and math functions and array assignment, which call it, would cut this "
            "derivative off silently: use NumPy functions and tg.index_update, or t.item() if a "
            "constant is meant"
        )
    return t.item()


def _in_place(t: Tensor, primitive: Primitive, other: Any) -> Tensor:
    """`p -= step`: updates a leaf that requires grad, under no_grad; otherwise a new Tensor."""
    if not t.is_leaf or (t._node is None and t.__class__ is Tensor):
        return apply(primitive, (t, other))
    if MODE.get().record:
        raise RuntimeError(
            f"{primitive.name} in place would change a parameter while "
            "recording: update parameters inside `with tg.no_grad():`, or write p = p + ... "
            "for a new tensor"
        )
    tracer = MODE.get().tracer
    mine = t._data if tracer is None else tracer.lift(t._data, t)
    new = primitive.forward(mine, operand(other) if not isinstance(other, Tensor) else other.data)
    if tracer is not None:
        mine.become(new.astype(t.dtype))
        changed(t)
        return t
    if np.shape(new) != t.shape:
        raise ValueError(f"in-place {primitive.name}: {np.shape(new)} does not fit into {t.shape}")
    if t.ndim:
        np.copyto(t._data, new, casting="same_kind")
        changed(t)
    else:
        t.data = t.dtype.type(new)
    return t
