"""Chunked causal attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen import masks
from attngen.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


def chunked(size: int | Tensor, *, score: Any = None, normalizer: Any = "softmax", scale: Any = None) -> Spec:
    """Causal attention within chunks of `size` positions, as in Llama 4: row i sees i % size + 1 keys.

    Bottom-right aligned, i = q + n_k - n_q; see `masks.chunked`.
    """
    mask = masks.causal("bottom_right") & masks.chunked(size)
    return Spec(mask, score, normalizer, scale=scale, name="chunked")
