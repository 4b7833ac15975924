"""Class tables of routers, made on the device of the operands. Selection has no gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from attngen.codegen.lower.produced import Extents, Numbers, Produced, Tensors, at_heads, heads_of, indexed, placeholder
from attngen.codegen.problem import Problem
from attngen.errors import InputError
from attngen.ir.nodes import Given, PooledTopK, Router, View

if TYPE_CHECKING:
    from torch import Tensor

AXES = ("b", "h", "?", "?")


@dataclass(frozen=True, slots=True)
class Classes:
    """The table of a router under the router's own name, (B or 1, H or 1, query blocks, key blocks)."""

    router: Router
    dtype: str

    @property
    def made(self) -> tuple[Produced, ...]:
        return (indexed(self.router.name, AXES, self.dtype),)

    def make(self, tensors: Tensors, numbers: Numbers, extents: Extents) -> tuple[Tensor, ...]:
        match self.router.rule:
            case Given(table=name):
                # Another object every time: made tensors are known by identity, and the caller may write to this one.
                return (tensors[name].detach(),)
            case PooledTopK() as rule:
                return (self._pooled(rule, tensors["q"], tensors["k"], extents),)
            case _:
                assert_never(self.router.rule)

    def placeholders(self, tensors: Tensors, extents: Extents) -> tuple[Tensor, ...]:
        import torch

        blocks = (-(-extents.n_q // self.router.query_block), -(-extents.n_k // self.router.key_block))
        match self.router.rule:
            case Given(table=name):
                table, wanted = tensors[name], (extents.n_b, extents.n_h, *blocks)
                fits = zip(table.shape, wanted, (True, True, False, False), strict=True)
                if any(have != want and not (have == 1 and shared) for have, want, shared in fits):
                    got = f"{name}: got shape {tuple(table.shape)}"
                    raise InputError(f"{got}; {wanted} is needed, or 1 for batches and heads")
                return (table,)
            case PooledTopK():
                return (placeholder((extents.n_b, extents.n_h, *blocks), torch.int8),)
            case _:
                assert_never(self.router.rule)

    def _pooled(self, rule: PooledTopK, q: Tensor, k: Tensor, extents: Extents) -> Tensor:
        """Two partial selections instead of a ranking of all: few blocks are in the top and in the bottom."""
        import torch

        with torch.no_grad():
            queries = at_heads(block_means(q, self.router.query_block), heads_of(View("q"), q.shape[1], extents.n_h))
            keys = block_means(k, self.router.key_block)
            if rule.smooth_k:
                keys = keys - k.mean(2, dtype=keys.dtype, keepdim=True)
            scores = queries @ at_heads(keys, heads_of(View("k"), k.shape[1], extents.n_h)).mT
            scores = scores.expand(extents.n_b, -1, -1, -1)
            scores = torch.where(scores.isnan(), torch.inf, scores)
            blocks = scores.shape[-1]
            top = min(blocks, max(1, int(rule.top * blocks)))
            bottom = min(int(rule.bottom * blocks), blocks - top)
            classes = best(scores, top).to(torch.int8)
            if bottom:
                classes -= best(-scores.flip(-1), bottom).flip(-1).to(torch.int8)
            return classes


def classes_of(router: Router, problem: Problem) -> Classes:
    """The producer of a router's table: of bytes, or of what the caller gives."""
    rule = router.rule
    return Classes(router, problem.operand(rule.table).dtype if isinstance(rule, Given) else "int8")


def best(scores: Tensor, count: int) -> Tensor:
    """Which are the `count` greatest of the last axis; of equal ones the first."""
    least = scores.topk(count, -1, sorted=True).values[..., -1:] if count else scores[..., :0]
    above, equal = scores > least, scores == least
    return above | (equal & (equal.cumsum(-1) <= count - above.sum(-1, keepdim=True)))


def block_means(tokens: Tensor, block: int) -> Tensor:
    """The mean vector of each block of tokens (axis 2), in float32 at least; the last block may be short."""
    import torch

    wide = torch.promote_types(tokens.dtype, torch.float32)
    whole = tokens.shape[2] // block
    parts = [
        tokens[:, :, : whole * block].reshape(*tokens.shape[:2], whole, block, tokens.shape[3]).mean(3, dtype=wide)
    ]
    if whole * block < tokens.shape[2]:
        parts.append(tokens[:, :, whole * block :].mean(2, dtype=wide, keepdim=True))
    return torch.cat(parts, 2)
