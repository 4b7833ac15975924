"""`explain`: the specs that were recovered from a call, and what stood in the way of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from attngen.errors import AttngenError
from attngen.lift.backend import Backend
from attngen.lift.paste import code

if TYPE_CHECKING:
    from attngen.spec import Spec


@dataclass(frozen=True, slots=True)
class Recovered:
    """The specs of the attentions of a function, in order, and the reasons why others are left to PyTorch."""

    name: str
    specs: tuple[Spec, ...]
    refused: tuple[AttngenError, ...]

    def __str__(self) -> str:
        parts = [f"# {self.name}: {len(self.specs)} of its attentions lifted", "import attngen"]
        parts += [code(spec) for spec in self.specs]
        parts += [f"# left to PyTorch: {str(reason).replace(chr(10), chr(10) + '# ')}" for reason in self.refused]
        return "\n\n".join(parts)


class Listening(Backend):
    """Keeps the reasons instead of telling them."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.refused: list[AttngenError] = []

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def refuse(self, reason: AttngenError) -> None:
        self.refused.append(reason)


def explained(function: Any, dynamic: bool | None, args: Any, options: Any) -> Recovered:
    """Traces one call, and runs it."""
    name = str(getattr(function, "__name__", type(function).__name__))
    backend = Listening(name)
    compiled: Any = torch.compile(function, backend=backend, dynamic=dynamic)
    compiled(*args, **options)
    # Dynamo keeps a few graphs of a function, and this one is of no further use.
    dynamo: Any = torch._dynamo
    code = getattr(getattr(function, "forward", function), "__code__", None)
    if code is not None:
        dynamo.reset_code(code)
    return Recovered(name, tuple(backend.lifted), tuple(backend.refused))
