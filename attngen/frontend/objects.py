"""Captured Python objects as traced functions see them: what is read through them is followed to where it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any, NoReturn

from attngen.frontend.paths import Attribute, Global, Item, Node
from attngen.frontend.scalar import Proxy, show
from attngen.frontend.tracer import Tracer

UNCHANGED = "a traced function must not change what it captures"


class Captured:
    """The base: the object, and the node that reads it."""

    __slots__ = ("__attngen_value__", "_node", "_tracer")
    __attngen_value__: Any
    _node: Node
    _tracer: Tracer

    def __init__(self, tracer: Tracer, value: Any, node: Node) -> None:
        object.__setattr__(self, "_tracer", tracer)
        object.__setattr__(self, "_node", node)
        object.__setattr__(self, "__attngen_value__", value)

    def _take(self, value: Any, node: Node) -> Any:
        from attngen.frontend.capture import capture

        return capture(self._tracer, value, node)

    def _item(self, key: Any) -> Any:
        node = self._node
        name = str(key) if isinstance(key, str) else f"{node.name}_{key}"
        return self._take(self.__attngen_value__[key], Item(f"{node.text}[{key!r}]", name, node, key))

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise self._tracer.error(f"assigning {self._node.text}.{name}: {UNCHANGED}")

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise self._tracer.error(f"assigning into {self._node.text}: {UNCHANGED}")

    def __delitem__(self, key: Any) -> NoReturn:
        self[key] = None

    def __eq__(self, other: object) -> bool:
        return bool(self.__attngen_value__ == getattr(other, "__attngen_value__", other))

    def __hash__(self) -> int:
        return hash(self.__attngen_value__)

    def __bool__(self) -> bool:
        return bool(self.__attngen_value__)

    def __len__(self) -> int:
        return len(self.__attngen_value__)

    def __repr__(self) -> str:
        return f"<captured {self._node.text}>"


class CapturedObject(Captured):
    """An object with attributes: they are read anew at every call, its methods are traced into."""

    __slots__ = ()

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.__attngen_value__)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__attngen_value__, name)
        return self._take(value, Attribute(f"{self._node.text}.{name}", name, self._node, name))

    def __getitem__(self, key: Any) -> Any:
        return self._item(key.concrete(f"an index of {self._node.text}") if isinstance(key, Proxy) else key)

    def __iter__(self) -> Iterator[Any]:
        return iter([self[i] for i in range(len(self))])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from attngen.frontend.clones import follow

        return follow(self._tracer, self.__attngen_value__, self._node)(*args, **kwargs)


class CapturedList(Captured):
    """A list or a tuple: its length is part of the definition, its items are followed."""

    __slots__ = ()
    is_attngen_list = True

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.__attngen_value__)

    def __iter__(self) -> Iterator[Any]:
        return iter([self._item(i) for i in range(len(self))])

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return [self._item(i) for i in range(len(self))[key]]
        if isinstance(key, Proxy) and key.host is None:
            return self._table(key)
        place = range(len(self))[key.concrete(f"an index of {self._node.text}") if isinstance(key, Proxy) else key]
        return self._item(place)

    def _table(self, key: Proxy) -> Any:
        """Indexed by a head or a position: a table of its numbers, read at every call."""
        import torch

        from attngen.frontend.dispatch import dispatch

        if not all(isinstance(item, Proxy) for item in self):
            raise self._tracer.error(
                f"{self._node.text}[{show(key)}]: this {type(self.__attngen_value__).__name__} does not hold numbers; "
                "only numbers and tensors can be indexed by heads and positions"
            )
        return dispatch(self._tracer, torch.tensor, (self,), {})[key]

    def __contains__(self, item: Any) -> bool:
        return any(item is one or item == one for one in self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list | tuple) and type(self.__attngen_value__)(self) == other

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: Any) -> Any:
        return type(self.__attngen_value__)([*self, *other])

    def __radd__(self, other: Any) -> Any:
        return type(self.__attngen_value__)([*other, *self])

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self)[::-1])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in CHANGES:
            raise self._tracer.error(f"{self._node.text}.{name}(): {UNCHANGED}")
        fields = getattr(self.__attngen_value__, "_fields", ())
        if name in fields:
            return self._item(fields.index(name))
        if name in ("index", "count"):
            return getattr(list(self), name)
        node = Attribute(f"{self._node.text}.{name}", name, self._node, name)
        return self._take(getattr(self.__attngen_value__, name), node)


class CapturedDict(Captured):
    """A dict: its keys are part of the definition, its values are followed."""

    __slots__ = ()

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.__attngen_value__)

    def __getitem__(self, key: Any) -> Any:
        return self._item(key.concrete(f"a key of {self._node.text}") if isinstance(key, Proxy) else key)

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key, or the default."""
        return self[key] if key in self else default  # noqa: SIM401

    def __contains__(self, key: Any) -> bool:
        return key in self.__attngen_value__

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self.__attngen_value__))

    def keys(self) -> list[Any]:
        """The keys."""
        return list(self)

    def values(self) -> list[Any]:
        """The values, followed."""
        return [self[key] for key in self]

    def items(self) -> list[tuple[Any, Any]]:
        """Keys and values."""
        return [(key, self[key]) for key in self]

    __hash__ = None  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        if name in CHANGES:
            raise self._tracer.error(f"{self._node.text}.{name}(): {UNCHANGED}")
        raise AttributeError(f"{self._node.text} has no attribute {name!r}")


class CapturedModule(Captured):
    """A module. Of the user's: its variables are followed. Of a library: its functions are understood."""

    __slots__ = ("_library",)

    def __init__(self, tracer: Tracer, value: ModuleType, node: Node, library: bool) -> None:
        super().__init__(tracer, value, node)
        object.__setattr__(self, "_library", library)

    def __getattr__(self, name: str) -> Any:
        from attngen.frontend.capture import library

        value = getattr(self.__attngen_value__, name)
        if self._library:
            return library(self._tracer, value)
        return self._take(value, Global(f"{self._node.text}.{name}", name, vars(self.__attngen_value__), name))


CHANGES = frozenset(
    [
        "append",
        "extend",
        "insert",
        "remove",
        "pop",
        "clear",
        "sort",
        "reverse",
        "update",
        "setdefault",
        "popitem",
        "add",
        "discard",
    ]
)
