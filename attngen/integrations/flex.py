"""FlexAttention's arguments as a Spec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attngen.arguments import refuse
from attngen.spec import Spec


def spec(score_mod: Callable[..., Any] | None = None, block_mask: Any = None, scale: float | None = None) -> Spec:
    """The Spec of `flex_attention(q, k, v, score_mod, block_mask, scale)`.

    `block_mask`: what `create_block_mask` gives, of which the `mask_mod` counts and its blocks are not read; or a
    mask_mod itself, so that no block mask has to be made. Captured tensors are read anew at every call, and have
    gradients. Raises `SpecError` for a block mask without a mask_mod.
    """
    if block_mask is None:
        return Spec(score=score_mod, scale=scale, name="flex_attention")
    mask = getattr(block_mask, "mask_mod", block_mask)
    if not callable(mask) or getattr(mask, "__name__", "") == "noop_mask":
        raise refuse("block_mask", block_mask, "a BlockMask made from a mask_mod, or the mask_mod")
    return Spec(mask, score_mod, scale=scale, name="flex_attention")
