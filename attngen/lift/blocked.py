"""What stands in the way of lifting, at the user's line of a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.errors import LiftError
from attngen.lift.nodes import source

if TYPE_CHECKING:
    from torch.fx import Node


def blocked(message: str, node: Node) -> LiftError:
    """The error; `backend` makes it a line of the log unless `fullgraph=True` was asked for."""
    return LiftError(message, source=source(node))
