"""MInference's static patterns: the A-shape, and the tri-shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import integer, per_head
from attngen.masks.causal import causal
from attngen.masks.mask import Mask
from attngen.masks.sink import sink
from attngen.masks.sliding_window import sliding_window
from attngen.remember import remembered

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def a_shape(initial: int | Tensor, local: int | Tensor) -> Mask:
    """The first `initial` keys and the last `local` ones up to the query's own position; causal.

    With i = q + n_k - n_q (bottom-right aligned): kv <= i and (kv < initial or kv > i - local), so a row sees
    min(i + 1, initial + local) keys, none where i < 0. `initial` >= 0 and `local` >= 1 may be integer tensors (H,), one
    per query head. These are StreamingLLM's sinks and window. Source: MInference, arXiv 2407.02490.
    """
    initial, local = per_head("initial", initial, low=0), per_head("local", local, low=1)
    return (sink(initial) & causal("bottom_right") | sliding_window(local)).called("a_shape")


@remembered
def tri_shape(initial: int | Tensor, local: int | Tensor, last: int) -> Mask:
    """The A-shape, where the last `last` queries see every key up to their own: row i then sees i + 1 keys.

    Other rows see min(i + 1, initial + local) keys, with i = q + n_k - n_q (bottom-right aligned), none where i < 0.
    `initial` and `local` as in `a_shape`, `last` >= 0. Source: SCBench, arXiv 2412.10319; MInference's code.
    """
    integer("last", last, 0)
    late = Mask.of(lambda q, n_q: q >= n_q - last)
    return (a_shape(initial, local) | late & causal("bottom_right")).called("tri_shape")
