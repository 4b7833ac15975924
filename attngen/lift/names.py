"""What an input of a lifted kernel is called: as the variable, the attribute or the result in the user's code."""

from __future__ import annotations

import keyword
import re
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING

from attngen.frontend.combine import unique
from attngen.frontend.tracer import RESERVED

if TYPE_CHECKING:
    from torch.fx import Node

TAKEN = RESERVED | {"row", "let", "in", "inf", "nan", "true", "false", "none"}


def input_name(node: Node, taken: Mapping[str, object]) -> str:
    """A name that no other input has."""
    return unique(_plain(_written(node), TAKEN), taken)


def _written(node: Node) -> str:
    found = getattr(node, "_dynamo_source", None)
    text = getattr(found, "name", "") if found is not None else ""
    text = text() if callable(text) else text
    words = [word for word in re.findall(r"[A-Za-z_]\w*", str(text)) if word not in ("L", "G", "self")]
    return words[-1] if words else re.sub(r"^(l_|s\d+$)", "", node.name).strip("_")


def _plain(name: str, taken: Container[str]) -> str:
    name = re.sub(r"\W", "_", name).strip("_") or "input"
    if name[0].isdigit() or name in taken or keyword.iskeyword(name):
        name = f"{name}_" if not name[0].isdigit() else f"n{name}"
    return name
