"""Checks of indexed tensors before a launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attngen.codegen.backend import Call
from attngen.codegen.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def input_checks(plan: Plan, call: Call) -> Callable[[Sequence[Tensor], Sequence[float]], None] | None:
    """None where nothing has to be checked per call."""
    return None
