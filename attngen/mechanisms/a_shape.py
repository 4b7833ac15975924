"""MInference's static patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen import masks
from attngen.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


def a_shape(
    initial: int | Tensor = 128,
    local: int | Tensor = 3968,
    *,
    score: Any = None,
    normalizer: Any = "softmax",
    scale: Any = None,
) -> Spec:
    """Causal attention to the first `initial` and the last `local` keys; see `masks.a_shape`."""
    return Spec(masks.a_shape(initial, local), score, normalizer, scale=scale, name="a_shape")


def tri_shape(
    initial: int | Tensor = 30,
    local: int | Tensor = 1024,
    last: int = 100,
    *,
    score: Any = None,
    normalizer: Any = "softmax",
    scale: Any = None,
) -> Spec:
    """The A-shape, with the last `last` queries seeing every key up to theirs; see `masks.tri_shape`."""
    return Spec(masks.tri_shape(initial, local, last), score, normalizer, scale=scale, name="tri_shape")
