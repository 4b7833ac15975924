"""Is a function a mask or a score, of one query and one key, or a plain attention on tensors? Its parameters tell.

A mask or score names its parameters `score, b, h, q, kv` (any of them), or has four or five of any name, as
FlexAttention passes them. Names of tensors (`k`, `v`, `key`, `value`, `query`, `x`...) say that it is an attention, and
so does any other number of parameters. `attngen.compile(function, lift=True)` settles it, as `lift=False` does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from attngen.frontend.roles import MASK_OR_SCORE

TENSORS = frozenset(
    {"k", "v", "key", "value", "query", "keys", "values", "queries", "x", "qkv", "kv_cache", "hidden_states", "self"}
    | {"attn_mask", "attention_mask", "q_proj", "k_proj", "v_proj", "Q", "K", "V", "xq", "xk", "xv"}
)
SYMBOLS = frozenset(MASK_OR_SCORE.names) - {"b", "h", "q"}
"""Names that nothing but a mask or a score has: where others are beside them, the tracer says which are wrong."""


def is_attention(function: Callable[..., Any]) -> bool:
    """Whether a function is to be lifted."""
    if hasattr(function, "_parameters") and hasattr(function, "forward"):
        return "forward" in vars(type(function)) and is_attention(function.forward)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False
    names = [p.name for p in parameters]
    if TENSORS & set(names) or "torch.nn" in getattr(function, "__module__", ""):
        return True
    required = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if SYMBOLS & set(names) or set(required) <= set(MASK_OR_SCORE.names) or _is_lambda(function):
        return False
    return len(required) not in (4, 5)


def _is_lambda(function: Any) -> bool:
    """Lambdas with unknown names are masks or scores that are misspelt, and the tracer says how."""
    return getattr(function, "__name__", "") == "<lambda>"
