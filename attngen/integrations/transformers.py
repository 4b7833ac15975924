"""Hugging Face transformers: after `register()`, `attn_implementation="attngen"` runs a model's attention in kernels.

The mask of a forward pass stays the function of positions that transformers composes (causal, sliding window, padding,
packed sequences), so nothing is evaluated on all pairs, and tiles that it hides are skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from attngen.ir.expr import load, sym
from attngen.ir.nodes import Input
from attngen.ir.normalizer import Streaming
from attngen.kernel import Kernel
from attngen.masks.mask import Mask
from attngen.spec import Spec


def register(name: str = "attngen") -> None:
    """Makes `name` an `attn_implementation` of every model that takes part in transformers' attention interface.

    Causal and bidirectional masks, sliding windows, padding, packed sequences, grouped heads, soft-caps, sinks and
    position biases, forward and backward. Attention weights are not returned. Under torch.compile the same is
    computed by plain PyTorch.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(name, attention_forward)
    AttentionMaskInterface.register(name, visible)


@dataclass
class Visible:
    """Which keys a query sees in one forward pass: a function of (b, h, q, kv), traced once for all layers."""

    function: Callable[..., Any]
    mask: Mask
    kernels: dict[Settings, Kernel] = field(default_factory=dict)

    def kernel(self, settings: Settings) -> Kernel:
        """The kernel of a layer with these settings."""
        if settings not in self.kernels:
            self.kernels[settings] = settings.kernel(self.mask)
        return self.kernels[settings]


@dataclass(frozen=True, slots=True)
class Settings:
    """What else makes a layer. `bias` and `keep` are the indices at which tensors of these names are read, or None."""

    scale: float | None
    softcap: float | None = None
    sinks: bool = False
    dropout: float = 0.0
    bias: str | None = None
    keep: str | None = None

    def kernel(self, mask: Mask | str | None) -> Kernel:
        """The kernel with this mask."""
        score = "score" if self.softcap is None else f"{self.softcap!r} * tanh(score / {self.softcap!r})"
        if self.bias is not None:
            score = f"{score} + bias[{self.bias}]"
        weight = None
        if self.dropout:
            weight = f"where(uniform(int:seed[0]) >= {self.dropout!r}, {1 / (1 - self.dropout)!r}, 0.0)"
        mask = mask if self.keep is None else f"bool:keep[{self.keep}]"
        spec = Spec(mask=mask, score=score, scale=self.scale, weight=weight, name="transformers")
        return Kernel(_with_sinks(spec) if self.sinks else spec)


def _with_sinks(spec: Spec) -> Spec:
    """The spec with one more logit for each head, given per call: transformers calls it `s_aux`."""
    (branch,) = spec.ir.branches
    assert isinstance(branch.normalizer, Streaming)
    sunk = replace(branch.normalizer, sink=load("sinks", (sym("h"),)))
    inputs = (*spec.ir.inputs, Input("sinks", ("h",), "float", grad=True))
    return Spec.from_ir(replace(spec.ir, branches=(replace(branch, normalizer=sunk),), inputs=inputs), spec.bindings)


def visible(
    batch_size: int, q_length: int, kv_length: int, q_offset: Any = 0, kv_offset: Any = 0,
    mask_function: Callable[..., Any] | None = None, attention_mask: Tensor | None = None, **options: Any,
) -> Any:  # fmt: skip
    """transformers' mask interface: what its mask functions say, without evaluating them on any pair."""
    from transformers import masking_utils

    function = mask_function or masking_utils.causal_mask_function
    if torch.compiler.is_compiling():
        options = {**options, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        return masking_utils.sdpa_mask(
            batch_size, q_length, kv_length, q_offset, kv_offset, function, attention_mask, **options
        )
    padding = masking_utils.prepare_padding_mask(attention_mask, kv_length, kv_offset)
    if padding is not None:
        function = masking_utils.and_masks(function, masking_utils.padding_mask_function(padding.bool()))
    offsets = (int(q_offset), int(kv_offset))
    if offsets != (0, 0):
        function = masking_utils.add_offsets_to_mask_function(function, *offsets)
    return Visible(function, Mask.of(function))


def attention_forward(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, dropout: float = 0.0,
    scaling: float | None = None, softcap: float | None = None, s_aux: Tensor | None = None,
    is_causal: bool | None = None, position_bias: Tensor | None = None, **options: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """transformers' attention interface: query (B, H, Nq, D), key and value (B, Hk, Nk, D) -> (B, Nq, H, D)."""
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if torch.compiler.is_compiling():
        return plain(query, key, value, attention_mask, dropout, scaling, softcap, s_aux, causal, position_bias), None
    bias, keep = position_bias, None
    if isinstance(attention_mask, Tensor):
        if attention_mask.dtype == torch.bool:
            keep = attention_mask
        else:
            bias = attention_mask if bias is None else bias + attention_mask
    given: dict[str, Any] = {}
    for name, tensor in (("bias", bias), ("keep", keep), ("sinks", s_aux)):
        if tensor is not None:
            given[name] = tensor
    if dropout:
        given["seed"] = torch.randint(0, 2**63 - 1, (1,), device=query.device)
    settings = Settings(scaling, softcap, s_aux is not None, float(dropout), _places(bias), _places(keep))
    if isinstance(attention_mask, Visible):
        kernel = attention_mask.kernel(settings)
    else:
        kernel = _kernel(settings, attention_mask is None and bool(causal) and query.shape[2] > 1)
    return kernel(query, key, value, **given).transpose(1, 2).contiguous(), None


@lru_cache(maxsize=256)
def _kernel(settings: Settings, causal: bool) -> Kernel:
    return settings.kernel("kv <= q" if causal else None)


def _places(tensor: Tensor | None) -> str | None:
    """Where a tensor that broadcasts to (B, H, Nq, Nk) is read."""
    if tensor is None:
        return None
    names = ("b", "h", "q", "kv")[-tensor.dim() :]
    return ", ".join("0" if size == 1 else name for size, name in zip(tensor.shape, names, strict=True))


def plain(
    query: Tensor, key: Tensor, value: Tensor, mask: Any, dropout: float, scaling: float | None,
    softcap: float | None, sinks: Tensor | None, causal: bool, bias: Tensor | None,
) -> Tensor:  # fmt: skip
    """The same in PyTorch, for torch.compile to trace."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias
    lowest = torch.finfo(scores.dtype).min
    if isinstance(mask, Tensor):
        scores = scores.masked_fill(~mask, lowest) if mask.dtype == torch.bool else scores + mask
    elif causal and query.shape[2] > 1:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~seen, lowest)
    if sinks is not None:
        column = sinks.reshape(1, -1, 1, 1).expand(*scores.shape[:-1], 1).to(scores.dtype)
        scores = torch.cat([scores, column], -1)
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)
    weights = weights[..., :-1] if sinks is not None else weights
    return (torch.dropout(weights, dropout, dropout > 0) @ value).transpose(1, 2).contiguous()
