"""The table: each function with inputs small enough for eager, and how many of its attentions lift."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.lift import functions as f

B, H, N, D = 2, 4, 33, 16


@dataclass(frozen=True)
class Case:
    """`make()` gives the arguments; floats among them have gradients. `slow`: one more of a kind."""

    function: Callable[..., Any]
    make: Callable[[], tuple[Tensor, ...]]
    lifted: int = 1
    slow: bool = True
    reason: str = ""
    attention: bool = True

    @property
    def name(self) -> str:
        return self.function.__name__


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def qkv(hk: int = H, n_k: int = N) -> tuple[Tensor, Tensor, Tensor]:
    return rand(B, H, N, D), rand(B, hk, n_k, D, seed=1), rand(B, hk, n_k, D, seed=2)


def given(*others: Tensor, **shape: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (*qkv(**shape), *others)


def turned(*others: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (*(t.transpose(1, 2).contiguous() for t in qkv()), *others)


IDS = torch.arange(N).div(7, rounding_mode="floor").expand(B, N).contiguous()
KEEP = torch.arange(N) < torch.tensor([[20], [33]])
LENGTHS = torch.tensor([20, 33])
BLOCKS = torch.where(torch.arange(N)[:, None] // 11 == torch.arange(N) // 11, 0.0, -torch.inf).expand(1, N, N)

CASES = [
    Case(f.plain, given(), slow=False),
    Case(f.alibi_window, given(torch.rand(H)), slow=False),
    Case(f.causal_tril, given()),
    Case(f.causal_triu_fill, given()),
    Case(f.causal_bool_triu, given(), slow=False),
    Case(f.causal_where, given()),
    Case(f.causal_assigned, given(), slow=False),
    Case(f.causal_bottom_right, given(n_k=40)),
    Case(f.window_of_two_triangles, given()),
    Case(f.documents, given(IDS), slow=False),
    Case(f.two_masks, given(IDS)),
    Case(f.key_padding, given(~KEEP)),
    Case(f.bert_extended_mask, given(KEEP.long())),
    Case(f.lengths, given(LENGTHS)),
    Case(f.prefix_lm, given()),
    Case(f.dilated, given()),
    Case(f.given_bool_mask, given(KEEP[:, None, None] | torch.eye(N, dtype=torch.bool))),
    Case(f.given_bias, given(rand(1, H, N, N)), slow=False),
    Case(f.baddbmm, given(rand(1, H, N, N))),
    Case(f.soft_cap, given()),
    Case(f.relative_bias, given(rand(H, 2 * N - 1))),
    Case(f.t5_bias, given(rand(16, H))),
    Case(f.swin, given(rand(20, H), torch.arange(N * N).view(N, N) % 20)),
    Case(f.swin_shifted, given(torch.cat([BLOCKS, torch.zeros(1, N, N)]))),
    Case(f.alphafold_pair_bias, turned(rand(1, H, N, N), rand(B, N, H, D, seed=5)), slow=False),
    Case(f.distance_decay, given(rand(H))),
    Case(f.cosine, given(rand(H))),
    Case(f.scalar_temperature, given(torch.tensor(0.3))),
    Case(f.forgetting, given(rand(B, H, N))),
    Case(f.manual_softmax, given(), slow=False),
    Case(f.divided_after, given()),
    Case(f.multiplied_mask, given(KEEP)),
    Case(f.log_sum_exp, given()),
    Case(f.softmax_one, given()),
    Case(f.sigmoid, given()),
    Case(f.relu_squared, given()),
    Case(f.softplus_l1, given()),
    Case(f.bnhd, turned(), slow=False),
    Case(f.bnhd_einsum, turned(), slow=False),
    Case(f.flat_heads, lambda: tuple(t.flatten(0, 1) for t in qkv()), slow=False),
    Case(f.one_sequence, lambda: tuple(t[0, 0] for t in qkv()), slow=False),
    Case(f.repeated_heads, given(hk=2), slow=False),
    Case(f.expanded_heads, given(hk=2), slow=False),
    Case(f.grouped_einsum, given(hk=2), slow=False),
    Case(f.packed_projection, lambda: (rand(B, N, 64), rand(192, 64) / 8, rand(64, 64) / 8), slow=False),
    Case(f.rotary, given()),
    Case(f.sdpa, given(), slow=False),
    Case(f.sdpa_causal, given()),
    Case(f.sdpa_grouped, given(hk=2), slow=False),
    Case(f.sdpa_bool_mask, given()),
    Case(f.sdpa_bias, given(rand(1, H, N, N))),
    Case(f.weighted, given(torch.rand(H))),
    Case(f.two_attentions, given(), lifted=2),
    Case(f.differential, given(torch.tensor(0.4)), lifted=2),
    Case(f.sink, given(rand(H))),
    Case(f.shifted, given()),
]

LEFT = [
    Case(f.mlp, lambda: (rand(B, N, D), rand(D, 40), rand(40, D)), 0, attention=False),
    Case(f.other_axis, given(), 0, reason="`softmax` over dimension -2 is not over the keys of a query"),
    Case(f.scores_twice, given(), 0, reason="scores or weights are also returned"),
    Case(f.talking_heads, given(rand(H, H)), 0, reason="`einsum` between the two products has no form in a kernel"),
    Case(f.three_matrices, given(), 0, attention=False),
    Case(f.linear_attention, given(), 0, attention=False),
]
