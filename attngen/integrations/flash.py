"""FlashAttention's arguments as a Spec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen.arguments import is_tensor, number, refuse
from attngen.masks.causal import causal as causal_mask
from attngen.masks.full import full
from attngen.masks.window import window
from attngen.normalizers.softmax import softmax
from attngen.scores.alibi import alibi
from attngen.scores.score import Score
from attngen.scores.soft_cap import soft_cap
from attngen.spec import Segments, Spec

if TYPE_CHECKING:
    from torch import Tensor


def spec(
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int | None, int | None] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    learnable_sink: Tensor | None = None,
    varlen: bool = False,
) -> Spec:
    """The Spec of `flash_attn_func` with these arguments; call its kernel with `layout="bnhd"`.

    Masks are aligned bottom-right, as there; -1 and None in `window_size` are no bound. `alibi_slopes`: (H,) or (B, H);
    a score loses slope * |i + Nk - Nq - j|. `softcap` 0 is none. `varlen`: that of `flash_attn_varlen_func`; tokens of
    all sequences lie in one batch of 1, and the call gives `cu_seqlens_q=` and `cu_seqlens_k=`.
    Source: Dao-AILab/flash-attention, flash_attn_interface.py.
    """
    if not isinstance(window_size, tuple | list) or len(window_size) != 2:
        raise refuse("window_size", window_size, "(left, right), each an integer >= -1 or None")
    left, right = (-1 if side is None else side for side in window_size)
    mask = full() if left == right == -1 else window(left, right)
    if causal:
        mask = mask & causal_mask("bottom_right")
    score = soft_cap(softcap) if number("softcap", softcap, low=0) else None
    if alibi_slopes is not None:
        bias = _alibi(alibi_slopes)
        score = bias if score is None else score >> bias
    space = Segments() if varlen else None
    return Spec(mask, score, softmax(sink=learnable_sink), space, softmax_scale, name="flash_attention")


def _alibi(slopes: Any) -> Score:
    if not is_tensor(slopes) or slopes.dim() not in (1, 2):
        raise refuse("alibi_slopes", slopes, "a floating-point tensor (H,) or (B, H)")
    if slopes.dim() == 1:
        return alibi(slopes)
    return Score.of(lambda score, b, h, q, kv, n_q, n_k: score - slopes[b, h] * abs(q + (n_k - n_q) - kv), "alibi")
