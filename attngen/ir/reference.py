"""The oracle: dense float64 evaluation of a Spec, straight from the IR and independent of every code generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, assert_never, overload

from attngen.errors import InputError
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.nodes import Affine, Concat, Paged, Project, Segments, Spec
from attngen.ir.reference_call import Call, bind
from attngen.ir.reference_normalizers import normalize
from attngen.ir.reference_routers import class_table
from attngen.ir.reference_rows import row_symbols, rows_of
from attngen.ir.reference_spaces import from_pages, segments
from attngen.ir.verify import verify

if TYPE_CHECKING:
    from torch import Tensor

    Tensors = Mapping[str, Tensor | bool | int | float]


@overload
def reference(spec: Spec, tensors: Tensors, return_lse: Literal[False] = False) -> Tensor: ...
@overload
def reference(spec: Spec, tensors: Tensors, return_lse: Literal[True]) -> tuple[Tensor, Tensor]: ...
def reference(spec: Spec, tensors: Tensors, return_lse: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """The result of a spec on q (B, Hq, Nq, D), k (B, Hk, Nk, D), v (B, Hv, Nk, Dv) and its inputs, all by name.

    Gives (B, H, Nq, Do) in float64, with `return_lse` also the natural log-sum-exp (B, H, Nq); differentiable by
    autograd with respect to q, k, v and every float input. Batches or heads of size 1 broadcast; H is the number of
    query heads, or what the head maps of the views leave of them. Absent keys leak nothing, not even NaN, into the
    result or a gradient; a row without keys gives 0 and an LSE of -inf (of the sink, if there is one).

    Raises `SpecError` for a spec that is not legal and `InputError` for tensors that do not fit it. Memory and time are
    those of dense attention, and more where operands hold NaN or infinity.
    """
    import torch

    verify(spec)
    call = bind(spec, tensors)
    if isinstance(spec.space, Paged):
        call = from_pages(call, spec.space)
    if isinstance(spec.space, Segments):
        results = [_dense(part, return_lse) for part in segments(call, spec.space)]
        if not results:
            raise InputError(f"{spec.space.q_offsets}: got no sequence; offsets hold at least two entries")
        out = torch.cat([out for out, _ in results], 2)
        lse = torch.cat([lse for _, lse in results if lse is not None], 2) if return_lse else None
    else:
        out, lse = _dense(call, return_lse)
    return out if lse is None else (out, lse)


def _dense(call: Call, return_lse: bool) -> tuple[Tensor, Tensor | None]:
    spec = call.spec
    inputs = {**call.inputs, **{router.name: class_table(call, router) for router in spec.routers}}
    results = [normalize(branch.normalizer, rows_of(call, branch, inputs)) for branch in spec.branches]
    out = _combine(call, [out for out, _ in results])
    if not return_lse:
        return out, None
    lse = results[0][1]
    if len(results) > 1:
        raise InputError(f"return_lse: a spec of {len(results)} branches has no single log-sum-exp")
    if lse is None:
        raise InputError(f"return_lse: normalizer {spec.branches[0].normalizer.name!r} has no log-sum-exp")
    return out, lse


def _combine(call: Call, parts: list[Tensor]) -> Tensor:
    import torch

    combine = call.spec.combine
    if isinstance(combine, Concat):
        return torch.cat(parts, -1)
    terms = []
    match combine:
        case Affine(coefficients=coefficients):
            for part, coefficient in zip(parts, coefficients, strict=True):
                dim = torch.arange(part.shape[-1], device=part.device)
                terms.append(evaluate(coefficient, Environment({**row_symbols(call), "dim": dim}, call.inputs)) * part)
        case Project(weights=weights):
            for part, name in zip(parts, weights, strict=True):
                if name is not None and call.inputs[name].shape[0] != part.shape[-1]:
                    raise InputError(
                        f"{name}: got {call.inputs[name].shape[0]} rows; the branch is {part.shape[-1]} wide"
                    )
                terms.append(part if name is None else part @ call.inputs[name])
        case _:
            assert_never(combine)
    widths = {term.shape[-1] for term in terms}
    if len(widths) > 1:
        raise InputError(f"combine: the branches have different widths, {sorted(widths)}; they are added")
    return torch.stack(terms).sum(0)
