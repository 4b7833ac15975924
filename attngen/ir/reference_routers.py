"""Class tables of routers, from their rules. Selection is not differentiated."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from attngen.errors import InputError
from attngen.ir.nodes import Given, PooledTopK, Router, View
from attngen.ir.reference_call import Call
from attngen.ir.reference_views import read_view

if TYPE_CHECKING:
    from torch import Tensor


def class_table(call: Call, router: Router) -> Tensor:
    """The class of each (b, h, query block, key block), int64."""
    blocks = (-(-call.n_q // router.query_block), -(-call.n_k // router.key_block))
    match router.rule:
        case PooledTopK():
            return _pooled(call, router, router.rule)
        case Given(table=name):
            table = call.inputs[name]
            wanted = (call.n_b, call.n_h, *blocks)
            if any(
                have != want and not (have == 1 and i < 2)
                for i, (have, want) in enumerate(zip(table.shape, wanted, strict=True))
            ):
                raise InputError(f"{name}: got shape {tuple(table.shape)}; {wanted} is needed")
            return table.expand(wanted)
        case _:
            assert_never(router.rule)


def _pooled(call: Call, router: Router, rule: PooledTopK) -> Tensor:
    """Ranks the key blocks of each query block, best first; ties keep their order, so the lower index ranks higher."""
    import torch

    with torch.no_grad():
        q, k = read_view(call, View("q"), None), read_view(call, View("k"), None)
        if rule.smooth_k:
            k = k - k.mean(2, keepdim=True)
        scores = _means(q, router.query_block) @ _means(k, router.key_block).mT
        blocks = scores.shape[-1]
        top = max(1, int(rule.top * blocks))
        bottom = min(int(rule.bottom * blocks), blocks - top)
        order = scores.sort(dim=-1, descending=True, stable=True).indices
        rank = torch.arange(blocks, device=scores.device)
        classes = (rank < top).long() - (rank >= blocks - bottom).long()
        return torch.zeros_like(order).scatter(-1, order, classes.expand_as(order))


def _means(tokens: Tensor, block: int) -> Tensor:
    """The mean vector of each block of tokens; the last block may be short."""
    import torch

    return torch.stack([part.mean(2) for part in torch.split(tokens, block, 2)], 2)
