"""What stands in the way of lifting: the operation, its line, and the nearest form that lifts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.errors import LocatedError
from attngen.lift.nodes import source

if TYPE_CHECKING:
    from torch.fx import Node


class Blocked(LocatedError):
    """Raised while a graph is read; `backend` turns it into a line of the log, or an error under `fullgraph=True`."""


def blocked(message: str, node: Node) -> Blocked:
    """The error at the user's line of a node."""
    return Blocked(message, source=source(node))
