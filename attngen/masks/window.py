"""FlashAttention's window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import is_tensor, per_head
from attngen.masks.full import full
from attngen.masks.mask import Mask
from attngen.remember import remembered

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def window(left: int | Tensor, right: int | Tensor) -> Mask:
    """`left` keys before and `right` keys after the query's own position, both inclusive; -1: no bound on that side.

    With i = q + n_k - n_q (bottom-right aligned): i - left <= kv <= i + right, so a row sees left + 1 + right keys away
    from the borders and fewer near them (rows are not corrected as in `neighborhood`). Each side is an int >= -1 or an
    integer tensor (H,), one per query head. Source: Dao-AILab/flash-attention, `window_size`.
    """
    return _left(per_head("left", left, low=-1)) & _right(per_head("right", right, low=-1))


def _left(left: int | Tensor) -> Mask:
    if is_tensor(left):
        return Mask.of(lambda h, q, kv, n_q, n_k: (left[h] < 0) | (kv >= q + (n_k - n_q) - left[h]), "window_left")
    if left < 0:
        return full()
    return Mask.of(lambda q, kv, n_q, n_k: kv >= q + (n_k - n_q) - left, "window_left")


def _right(right: int | Tensor) -> Mask:
    if is_tensor(right):
        return Mask.of(lambda h, q, kv, n_q, n_k: (right[h] < 0) | (kv <= q + (n_k - n_q) + right[h]), "window_right")
    if right < 0:
        return full()
    return Mask.of(lambda q, kv, n_q, n_k: kv <= q + (n_k - n_q) + right, "window_right")
