"""Which symbol each parameter of a function is: by name, or by position where the names are the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from attngen.errors import SpecError
from attngen.frontend import positions
from attngen.frontend.roles import Role
from attngen.suggest import nearest

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The symbols to call a function with."""

    positional: tuple[str, ...]
    keywords: tuple[tuple[str, str], ...]

    def symbols(self) -> frozenset[str]:
        """All symbols among them."""
        return frozenset((*self.positional, *(symbol for _, symbol in self.keywords)))


def bind(function: Callable[..., Any], role: Role, given: frozenset[str], code: CodeType) -> Arguments:
    """The symbols of the parameters of `function`; `given` are those that a partial has bound by name.

    Raises `SpecError` naming the parameter that is not known, with the nearest name that is.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise SpecError(f"{role.label}: the parameters of {function!r} cannot be read") from None
    parameters = [p for p in parameters if p.name not in given]
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if not required and any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return _all_by_position(role, code)
    unknown = [p for p in required if p.name not in role.names]
    if unknown:
        return Arguments(_by_position(required, unknown[0].name, role, code), ())
    positional = tuple(role.names[p.name] for p in required if p.kind in POSITIONAL)
    keywords = [(p.name, role.names[p.name]) for p in required if p.kind not in POSITIONAL]
    keywords += [
        (p.name, role.names[p.name])
        for p in parameters
        if p.default is not p.empty and p.name in role.names and p.kind is not p.POSITIONAL_ONLY
    ]
    return Arguments(positional, tuple(keywords))


def _by_position(required: list[inspect.Parameter], unknown: str, role: Role, code: CodeType) -> tuple[str, ...]:
    if all(p.kind in POSITIONAL for p in required):
        for signature in role.positional:
            pairs = zip(required, signature, strict=False)
            # A known name in another place shows that the order is not the one of the signature.
            clash = any(role.names.get(p.name, symbol) != symbol for p, symbol in pairs)
            if len(signature) == len(required) and not clash:
                return signature
    raise SpecError(
        f"{role.label}: unknown parameter {unknown!r}{nearest(unknown, role.names)}; {_allowed(role)}",
        source=positions.of_code(code),
    )


def _all_by_position(role: Role, code: CodeType) -> Arguments:
    if len(role.positional) == 1:
        return Arguments(role.positional[0], ())
    raise SpecError(f"{role.label}: *args do not tell which parameters are meant; {_allowed(role)}",
                    source=positions.of_code(code))  # fmt: skip


def _allowed(role: Role) -> str:
    text = f"known names, in any order: {', '.join(role.names)}"
    for signature in role.positional:
        text += f"; or {len(signature)} parameters of any name, which are ({', '.join(signature)})"
    return f"{text}. A captured value is a parameter with a default"
