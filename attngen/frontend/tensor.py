"""The value that stands for a captured tensor: indexing gives an element, work on it alone is recorded."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from functools import reduce
from typing import Any, NoReturn

from attngen.errors import TraceError
from attngen.frontend.paths import Call, Node, Size, text_of
from attngen.frontend.scalar import Proxy, show
from attngen.frontend.tracer import Tracer, is_array
from attngen.ir.expr import const, symbols

FULL = slice(None)
Index = Proxy | int | None


class TensorProxy:
    """A captured tensor, or one computed from captured tensors alone, with the indices that it has got so far.

    `indices` has an entry per dimension of the tensor behind `node`; None where none is given yet.
    """

    __slots__ = ("indices", "node", "tracer")
    is_attngen_tensor = True

    def __init__(self, tracer: Tracer, node: Node, indices: tuple[Index, ...] | None = None) -> None:
        self.tracer = tracer
        self.node = node
        self.indices = indices if indices is not None else (None,) * tracer.value(node).ndim

    @property
    def text(self) -> str:
        """What the user would call it."""
        if all(index is None for index in self.indices):
            return self.node.text
        shown = [":" if i is None else show(i) if isinstance(i, Proxy) else str(i) for i in self.indices]
        while shown[-1] == ":":
            shown.pop()
        return f"{self.node.text}[{', '.join(shown)}]"

    def is_host(self) -> bool:
        """Whether it is known before the kernel runs: no index depends on a query or a key."""
        return all(not isinstance(i, Proxy) or i.host is not None for i in self.indices)

    def recorded(self) -> Node:
        """The tensor as a node; refused where an index depends on a query or a key."""
        if all(index is None for index in self.indices):
            return self.node
        if not self.is_host():
            used = [i.expr for i in self.indices if isinstance(i, Proxy)]
            names = ", ".join(sorted(symbols(*used)))
            raise self.tracer.error(
                f"`{self.text}` is a part of a tensor that depends on {names}; index all {len(self.indices)} "
                "dimensions first, and compute on the number that this gives"
            )
        index = tuple(i.host if isinstance(i, Proxy) else FULL if i is None else i for i in self.indices)
        return part(self.node, index)

    # --- indexing ---

    def __getitem__(self, key: Any) -> Any:
        items = list(key) if isinstance(key, tuple) else [key]
        items = [list(item) if getattr(type(item), "is_attngen_list", False) else item for item in items]
        if any(_advanced(item) for item in items):
            return self._reshaping(items)
        free = [place for place, index in enumerate(self.indices) if index is None]
        items = self._expanded(items, len(free))
        if any(item is None for item in items):
            return self._reshaping(items)
        if any(isinstance(item, slice) and item != FULL for item in items):
            return self._sliced(items)
        indices = list(self.indices)
        for place, item in zip(free, items, strict=False):
            if not isinstance(item, slice):
                indices[place] = self._index(item, place)
        part = TensorProxy(self.tracer, self.node, tuple(indices))
        return part if None in indices else part._element()

    def _expanded(self, items: list[Any], free: int) -> list[Any]:
        if any(item is Ellipsis for item in items):
            place = next(i for i, item in enumerate(items) if item is Ellipsis)
            given = sum(item is not None and item is not Ellipsis for item in items)
            items = [*items[:place], *[FULL] * (free - given), *items[place + 1 :]]
        given = sum(item is not None for item in items)
        if given > free:
            raise self.tracer.error(f"`{self.text}` has {free} dimensions, got {given} indices")
        return items

    def _index(self, item: Any, place: int) -> Index:
        if isinstance(item, Proxy):
            if item.expr.type != "int":
                advice = "use // instead of /, or .long()" if item.expr.type == "float" else "use .long()"
                raise self.tracer.error(
                    f"an index of `{self.node.text}` is a {item.expr.type} ({show(item)}); "
                    f"indices are integers: {advice}"
                )
            return item
        if hasattr(item, "__index__") and not isinstance(item, bool):
            number = operator.index(item)
            if number < 0:
                behind: Index = self._size(place) - -number
                return behind
            return number
        raise self.tracer.error(f"an index of `{self.node.text}` is {item!r}; indices are integers")

    def _element(self) -> Proxy:
        found = [i if isinstance(i, Proxy) else Proxy(self.tracer, const(i or 0)) for i in self.indices]
        host = self.recorded() if self.is_host() else None
        return Proxy(self.tracer, self.tracer.load(self.node, tuple(i.expr for i in found)), host)

    def _sliced(self, items: list[Any]) -> Any:
        """Slices are taken from the tensor before the other indices apply."""
        from attngen.frontend.dispatch import hosts

        free = [place for place, index in enumerate(self.indices) if index is None]
        cut: list[Any] = [FULL] * len(self.indices)
        for place, item in zip(free, items, strict=False):
            if isinstance(item, slice):
                cut[place] = hosts(item, f"a slice of `{self.node.text}`")
        node = part(self.node, tuple(cut))
        rest = tuple(FULL if isinstance(item, slice) else item for item in items)
        return TensorProxy(self.tracer, node, self.indices)[rest]

    def _reshaping(self, items: list[Any]) -> Any:
        """Indices that change the layout (None, masks, index tensors): recorded if they are known before the call."""
        from attngen.frontend.dispatch import hosts, lift

        key = hosts(tuple(items), f"an index of `{self.node.text}` beside None, a list or a tensor")
        return lift(self.tracer, part(self.recorded(), key))

    def _size(self, place: int) -> Proxy:
        node = Size(f"{self.node.text}.shape[{place}]", f"{self.node.name}_size_{place}", self.node, place)
        return Proxy(self.tracer, self.tracer.load(node), node)

    def __iter__(self) -> Iterator[Any]:
        return iter([self[i] for i in range(len(self))])

    def __len__(self) -> int:
        return operator.index(self.shape[0])

    def __contains__(self, item: Any) -> NoReturn:
        raise self.tracer.error(f"`in {self.text}`: looks through a whole tensor; index it instead")

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise self.tracer.error(f"assigning into the captured `{self.text}`: a traced function must not change tensors")

    def __bool__(self) -> bool:
        raise self.tracer.error(
            f"the truth of the whole tensor `{self.text}`; index it, or pass the answer as a Python bool"
        )

    def __hash__(self) -> int:
        return id(self)

    # --- shape ---

    @property
    def shape(self) -> tuple[Proxy, ...]:
        """The sizes of the dimensions without an index; they follow the tensor."""
        return tuple(self._size(place) for place, index in enumerate(self.indices) if index is None)

    @property
    def ndim(self) -> int:
        return sum(index is None for index in self.indices)

    @property
    def dtype(self) -> Any:
        return self.tracer.value(self.node).dtype

    def dim(self) -> int:
        """The number of dimensions."""
        return self.ndim

    def size(self, dim: int | None = None) -> Any:
        """The sizes, or one of them."""
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> Any:
        """The number of elements."""
        first, *rest = self.shape
        return reduce(operator.mul, rest, first)

    # --- operators and functions: recorded ---

    def refuse_operand(self) -> TraceError:
        """The error for a whole tensor where one number is needed."""
        names = ["b", "h", "q", "kv"][: self.ndim] if self.ndim != 1 else ["h"]
        return self.tracer.error(
            f"`{self.text}` has {self.ndim} dimension{'s' if self.ndim > 1 else ''}, and values here are single "
            f"numbers; index it, for example {self.text}[{', '.join(names)}]"
        )

    def _binary(self, name: str, other: Any, reflected: bool = False) -> Any:
        from attngen.frontend.dispatch import dispatch

        if other is None or isinstance(other, str):
            return NotImplemented
        function = getattr(operator, f"{name}_" if name in ("and", "or") else name)
        return dispatch(self.tracer, function, (other, self) if reflected else (self, other), {})

    def _unary(self, name: str) -> Any:
        from attngen.frontend.dispatch import dispatch

        return dispatch(self.tracer, getattr(operator, name), (self,), {})

    def __getattr__(self, name: str) -> Any:
        from attngen.frontend.dispatch import tensor_attribute

        return tensor_attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in TensorProxy.__slots__:
            raise self.tracer.error(f"attribute {name!r}: a traced function must not change the captured `{self.text}`")
        object.__setattr__(self, name, value)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from attngen.frontend.dispatch import dispatch, tracer_of

        return dispatch(tracer_of((args, kwargs)), function, args, kwargs or {})

    def __repr__(self) -> str:
        return f"<tensor {self.text}: {self.ndim} dimensions>"


def part(node: Node, index: Any) -> Node:
    """Recorded indexing of a tensor."""
    shown = text_of(index)
    shown = shown[1:-1].rstrip(",") if isinstance(index, tuple) else shown
    return Call(f"{node.text}[{shown}]", f"{node.name}_part", operator.getitem, (node, index), {})


def _advanced(item: Any) -> bool:
    return isinstance(item, list | tuple | TensorProxy | bool) or (not isinstance(item, Proxy) and is_array(item))


def _operator(name: str, reflected: bool) -> Any:
    def method(self: TensorProxy, other: Any) -> Any:
        return self._binary(name, other, reflected)

    return method


def _prefix(name: str) -> Any:
    return lambda self: self._unary(name)


for _name in [
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "matmul",
    "and",
    "or",
    "xor",
    "lshift",
    "rshift",
]:
    setattr(TensorProxy, f"__{_name}__", _operator(_name, False))
    setattr(TensorProxy, f"__r{_name}__", _operator(_name, True))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(TensorProxy, f"__{_name}__", _operator(_name, False))
for _name in ("neg", "abs", "invert", "pos"):
    setattr(TensorProxy, f"__{_name}__", _prefix(_name))
