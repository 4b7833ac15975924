"""The yardstick of the error bound: dense attention in torch, in the precision of the call."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attngen.errors import AttngenError
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import symbols
from attngen.ir.nodes import Affine, Branch, Concat, Paged, Segments, Spec
from attngen.ir.reference_call import Call, bind
from attngen.ir.reference_normalizers import normalize
from attngen.ir.reference_routers import class_table
from attngen.ir.reference_rows import Rows, row_symbols, rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from torch import Tensor

BLOCK = 2048
"""Keys whose weights are computed at a time: the identity that lays them bare would be quadratic in a long row."""


def dense(spec: Spec, tensors: Mapping[str, Any]) -> Tensor | None:
    """softmax-like(q k^T) v as eager torch computes it in the dtype of q; None where the spec has no such form."""
    found = dense_rows(spec, tensors)
    return None if found is None else found[0]


def dense_rows(spec: Spec, tensors: Mapping[str, Any]) -> tuple[Tensor, Tensor | None] | None:
    """The result of `dense` and the log-sum-exp, where a spec of one branch has one."""
    if isinstance(spec.space, Paged | Segments) or not isinstance(spec.combine, Affine | Concat):
        return None
    if any("dim" in symbols(getattr(branch.normalizer, "finalize", None)) for branch in spec.branches):
        return None
    dtype = tensors["q"].dtype
    try:
        call = bind(spec, tensors)
        inputs = {**call.inputs, **{router.name: class_table(call, router) for router in spec.routers}}
        rounded = replace(call, operands={name: t.to(dtype) for name, t in call.operands.items()})
        parts = [_branch(rounded, branch, inputs) for branch in spec.branches]
        out = _combined(call, [part for part, _ in parts])
    except (AttngenError, RuntimeError):  # an operator that torch does not have in this precision
        return None
    return out, parts[0][1] if len(parts) == 1 else None


def _branch(call: Call, branch: Branch, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    rows = rows_of(call, branch, inputs)
    v = rows.v.to(call.operands["q"].dtype)
    weights, lse = _weights(branch, replace(rows, score=rows.score.to(v.dtype).double()))
    return weights.to(v.dtype) @ v, lse


def _weights(branch: Branch, rows: Rows) -> tuple[Tensor, Tensor | None]:
    """What the normalizer makes of the identity in place of V."""
    import torch

    count = rows.score.shape[-1]
    parts, lse = [], None
    for begin in range(0, max(1, count), BLOCK):
        eye = torch.zeros(count, min(BLOCK, count - begin), dtype=torch.float64, device=rows.v.device)
        eye[begin : begin + BLOCK].fill_diagonal_(1.0)
        part, lse = normalize(branch.normalizer, replace(rows, v=eye.expand(*rows.v.shape[:2], -1, -1)))
        parts.append(part)
    return torch.cat(parts, -1), lse


def _combined(call: Call, parts: list[Tensor]) -> Tensor:
    import torch

    combine = call.spec.combine
    if not isinstance(combine, Affine):
        return torch.cat(parts, -1)
    total: Tensor | None = None
    for part, coefficient in zip(parts, combine.coefficients, strict=True):
        dim = torch.arange(part.shape[-1], device=part.device)
        factor = evaluate(coefficient, Environment({**row_symbols(call), "dim": dim}, call.inputs))
        term = (factor * part.double()).to(part.dtype)
        total = term if total is None else total + term
    assert total is not None
    return total
