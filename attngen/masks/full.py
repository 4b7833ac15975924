"""No mask."""

from __future__ import annotations

from attngen.masks.mask import Mask
from attngen.remember import remembered


@remembered
def full() -> Mask:
    """Every query sees all n_k keys."""
    return Mask.of(lambda: True, "full")
