"""The strided pattern of Sparse Transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen import masks
from attngen.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


def strided(stride: int | Tensor, *, score: Any = None, normalizer: Any = "softmax", scale: Any = None) -> Spec:
    """Causal attention to the last `stride` keys and to every `stride`-th one before; see `masks.strided`."""
    return Spec(masks.strided(stride), score, normalizer, scale=scale, name="strided")
