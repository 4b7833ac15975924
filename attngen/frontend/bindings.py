"""Bindings: how the inputs that a function captured are read at every call, and checked against what was traced."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from attngen.errors import InputError
from attngen.frontend.static import plain
from attngen.ir.ops import Type

if TYPE_CHECKING:
    import torch

EXACT: dict[Type, type] = {"bool": bool, "int": int, "float": float}
BindingT = TypeVar("BindingT", bound="Binding")


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """A live input. Equal bindings read the same value by the same path.

    `rank` is None for a number. `created`: a tensor made inside of the function from constants and numbers alone, which
    lives on the default device; the caller may move it.
    """

    path: str
    key: Hashable = field(repr=False)
    read: Callable[[], Any] = field(repr=False)
    type: Type
    rank: int | None = None
    created: bool = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Binding) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def fetch(self) -> torch.Tensor | int | float | bool:
        """The value of this moment: a tensor with its autograd history, or a number.

        A float tensor without dimensions comes as a view of one entry, other tensors without dimensions as they are.
        Raises `InputError` naming the path if it is gone, or if its kind or number of dimensions has changed.
        """
        try:
            value = self.read()
        except (AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{self.path}: cannot be read any more: {type(error).__name__}: {error}") from None
        if self.rank is None:
            return cast(float, value) if type(value) is EXACT[self.type] else self._number(value)
        try:
            if element(value.dtype) == self.type and value.ndim == self.rank:
                return cast("torch.Tensor", value if self.rank or self.type != "float" else value.reshape(1))
        except AttributeError:
            pass
        raise InputError(f"{self.path}: was {describe(self.type, self.rank)} when it was traced, is {kind(value)} now")

    def _number(self, value: Any) -> Any:
        """Numbers of other types, where nothing is lost: NumPy's, static ones, an int where a float was."""
        value = plain(value)
        if hasattr(value, "item") and hasattr(value, "dtype") and not hasattr(value, "requires_grad"):
            value = value.item()
        order = list(EXACT.values())
        found = next((i for i, exact in enumerate(order) if type(value) is exact), None)
        if type(value).__name__ == ("SymFloat" if self.type == "float" else "SymInt"):
            return value
        if found is None or found > order.index(EXACT[self.type]):
            raise InputError(
                f"{self.path}: was {describe(self.type, None)} when it was traced, is {kind(value)} now; compile again"
            )
        return EXACT[self.type](value)


@dataclass(frozen=True, slots=True, eq=False)
class Guard:
    """A Python value that the expression was made with: text, a loop bound, the length of a list, a helper."""

    path: str
    key: Hashable
    read: Callable[[], Any]
    seen: Any
    how: Literal["equal", "same", "type", "length"] = "equal"

    def holds(self) -> bool:
        """Whether the value is still the one that was traced."""
        try:
            now = self.read()
        except (AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError):
            return False
        match self.how:
            case "equal":
                return now is self.seen or (type(now) is type(self.seen) and bool(now == self.seen))
            case "same":
                return now is self.seen
            case "type":
                return type(now) is self.seen or _put_in_place(type(now), self.seen)
            case "length":
                return hasattr(now, "__len__") and len(now) == self.seen


def _put_in_place(found: type, seen: Any) -> bool:
    """Whether torch gave an object this subclass of its class, as `fully_shard` and parametrizations do for modules:
    its methods are what they were, and its attributes are read anew at every call."""
    return seen in found.__bases__ and found.__module__.startswith("torch.") and found.__name__.endswith(seen.__name__)


class Bindings(Mapping[str, BindingT]):
    """The bindings of a traced function by the name of the input, and the guards of what was read while tracing."""

    __slots__ = ("_bindings", "guards")

    def __init__(self, bindings: Mapping[str, BindingT] | None = None, guards: tuple[Guard, ...] = ()) -> None:
        self._bindings = dict(bindings or {})
        self.guards = guards

    def __getitem__(self, name: str) -> BindingT:
        return self._bindings[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bindings)

    def __len__(self) -> int:
        return len(self._bindings)

    def stale(self) -> Guard | None:
        """The first Python value that is not the one that was traced, or None. Where there is one, trace again."""
        for guard in self.guards:
            if not guard.holds():
                return guard
        return None

    def check(self) -> None:
        """Raises `InputError` if a Python value that the expression was made with has changed."""
        guard = self.stale()
        if guard is not None:
            seen = getattr(guard.seen, "__name__", repr(guard.seen))
            what = "length " if guard.how == "length" else "type " if guard.how == "type" else ""
            raise InputError(
                f"{guard.path}: has changed since the function was traced, when it had {what or 'the value '}{seen}; "
                "compile again"
            )


def describe(type: Type, rank: int | None) -> str:
    """A kind of value in words."""
    article = "an" if type == "int" else "a"
    return f"{article} {type}" if rank is None else f"{article} {type} tensor with {rank} dimensions"


def kind(value: Any) -> str:
    """What a value is, in words."""
    if hasattr(value, "dtype") and hasattr(value, "ndim"):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor with {value.ndim} dimensions"
    name = type(value).__name__
    return f"{name} {value!r}" if isinstance(value, int | float | str) or value is None else f"a {name}"


def element(dtype: Any) -> Type | None:
    """What elements of a torch dtype are in expressions; None for complex and quantised ones.

    No cache: torch.compile traces through a call of this.
    """
    import torch

    if dtype.is_floating_point:
        return "float"
    if dtype is torch.bool:
        return "bool"
    return None if dtype.is_complex or str(dtype).startswith("torch.q") else "int"
