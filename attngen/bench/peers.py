"""The same attention by other libraries: calls that can be timed, or why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attngen.bench.functions import function
from attngen.errors import AttngenError, UnsupportedError
from attngen.ir import nodes
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr

if TYPE_CHECKING:
    from torch import Tensor

    from attngen.kernel import Kernel

Call = Callable[[], Any]
INDICES = ("b", "h", "q", "kv")


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a library does not compute this attention, as a sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Parts:
    """What SDPA and FlexAttention know of a spec: the scale, and functions of (b, h, q, kv), score first."""

    scale: float
    mask: Callable[..., Any] | None
    score: Callable[..., Any] | None


def peer(name: str, kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, inputs: dict[str, Any]) -> Call | Refused:
    """The call of a library of `PEERS` for these tensors, in layout bhnd."""
    try:
        return PEERS[name](_parts(kernel, q, k, inputs), q, k, v)
    except UnsupportedError as problem:
        return Refused(problem.message)


def _parts(kernel: Kernel, q: Tensor, k: Tensor, given: dict[str, Any]) -> _Parts:
    from attngen.spec import Spec

    spec, plain = kernel.spec.ir, Spec().ir
    first = spec.branches[0]
    if kernel.layout != "bhnd" or not isinstance(spec.space, nodes.Sequence | nodes.Grid):
        raise UnsupportedError("it takes one sequence of tokens for each batch and head, in layout bhnd")
    if len(spec.branches) > 1 or spec.routers or spec.combine != plain.combine:
        raise UnsupportedError("it has one branch")
    if first.keysets or first.weight is not None or first.decay is not None or first.v != plain.branches[0].v:
        raise UnsupportedError("it has one set of keys and values, and no weights or decays")
    if first.normalizer != plain.branches[0].normalizer:
        raise UnsupportedError(f"it has the softmax alone, not {first.normalizer.name}")
    dot = first.dots[0]
    if len(first.dots) > 1 or (dot.q, dot.k) != (plain.branches[0].dots[0].q, plain.branches[0].dots[0].k):
        raise UnsupportedError("it has one product of whole queries and keys")
    tensors, ints, floats = kernel._values(given)
    names = [*kernel._names, *(name for name, _ in kernel._ints), *(name for name, _ in kernel._floats)]
    values: dict[str, Any] = dict(zip(names, (*tensors, *ints, *floats), strict=True))
    values |= {"n_q": q.shape[2], "n_k": k.shape[2], "n_b": q.shape[0], "n_h": q.shape[1], "d": q.shape[3]}
    scale = _number(dot.scale, values)
    masked = first.mask != plain.branches[0].mask
    scored = first.score != plain.branches[0].score
    return _Parts(
        scale,
        function(first.mask, INDICES, values, spec.space) if masked else None,
        function(first.score, ("score", *INDICES), values, spec.space, q.dtype) if scored else None,
    )


def _number(scale: Expr, values: dict[str, Any]) -> float:
    import torch

    inputs = {name: torch.as_tensor(value) for name, value in values.items()}
    try:
        return float(evaluate(scale, Environment({"d": inputs["d"]}, inputs)))
    except AttngenError as problem:
        raise UnsupportedError("its scale is one number") from problem


def _sdpa(parts: _Parts, q: Tensor, k: Tensor, v: Tensor) -> Call:
    import torch
    import torch.nn.functional as F

    b, h, rows, columns = (torch.arange(n, device=q.device) for n in (*q.shape[:3], k.shape[2]))
    places = (b[:, None, None, None], h[:, None, None], rows[:, None], columns)
    shared: dict[str, Any] = {"scale": parts.scale, "enable_gqa": q.shape[1] != k.shape[1]}
    bias: Tensor | None = None
    if parts.score is not None:
        zero, one = torch.zeros((), dtype=q.dtype, device=q.device), torch.ones((), dtype=q.dtype, device=q.device)
        bias = parts.score(zero, *places)
        if not torch.allclose((parts.score(one, *places) - bias).float(), one.float(), atol=1e-2):
            raise UnsupportedError("of scores it knows what is added to them")
    seen = None if parts.mask is None else parts.mask(*places)
    if seen is not None and bias is None and _is_causal(seen):
        return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, **shared)
    if seen is not None and bias is not None:
        bias = torch.where(seen, bias, float("-inf"))
    mask = seen if bias is None else bias.to(q.dtype)
    if mask is not None:
        mask = mask.expand(*mask.shape[:-2], rows.numel(), columns.numel())
    return lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, **shared)


def _is_causal(seen: Tensor) -> bool:
    import torch

    square = seen.shape[-1] == seen.shape[-2] and seen.numel() == seen.shape[-1] ** 2
    return square and bool(
        torch.equal(seen.reshape(seen.shape[-2:]), torch.ones_like(seen).reshape(seen.shape[-2:]).tril())
    )


def _flex(parts: _Parts, q: Tensor, k: Tensor, v: Tensor) -> Call:
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    blocks: Any = None
    if parts.mask is not None:
        blocks = create_block_mask(parts.mask, q.shape[0], q.shape[1], q.shape[2], k.shape[2], device=str(q.device))
    run: Any = torch.compile(flex_attention, dynamic=False)
    options = {"scale": parts.scale, "enable_gqa": q.shape[1] != k.shape[1], "block_mask": blocks}

    def call() -> Any:
        with torch.no_grad():
            return run(q, k, v, score_mod=parts.score, **options)

    return call


PEERS: dict[str, Callable[[_Parts, Any, Any, Any], Call]] = {"sdpa": _sdpa, "flex": _flex}
