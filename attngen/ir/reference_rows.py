"""The scores, the presence and the values of all keys of a branch, key sets side by side.

A key is present where the mask holds and the score is not -inf. Nothing of an absent key, not even a NaN, reaches the
result or a gradient: every quantity is computed from operands that are replaced where no present pair uses them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attngen.errors import InputError
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.nodes import Branch, Dot, Grid, KeySet
from attngen.ir.reference_call import Call
from attngen.ir.reference_views import read_view

if TYPE_CHECKING:
    from torch import Tensor

Symbols = dict[str, "Tensor"]


@dataclass(frozen=True, slots=True)
class Rows:
    """score, present (B, H, Nq, N); weight the same or None; v (B, H, N, Dv); symbols of a row (..., Nq, 1)."""

    score: Tensor
    present: Tensor
    weight: Tensor | None
    v: Tensor
    symbols: Symbols
    inputs: dict[str, Tensor]


def rows_of(call: Call, branch: Branch, inputs: dict[str, Tensor]) -> Rows:
    """Gathers the rows of a branch. `inputs` are those of the call and the class tables of the routers."""
    import torch

    keysets = branch.all_keysets()
    shape = (call.batches, call.n_h, call.n_q)
    row = row_symbols(call)
    places = [{**row, **_key_symbols(call, keyset, main=i == 0)} for i, keyset in enumerate(keysets)]
    masks = []
    for i, (keyset, symbols) in enumerate(zip(keysets, places, strict=True)):
        mask = evaluate(keyset.mask, Environment(symbols, inputs)).expand(*shape, symbols["kv"].shape[-1])
        if i == 0:
            mask = mask & _within(call, branch, symbols)
        masks.append(mask)
    visible: Tensor = sum((m.sum(-1, keepdim=True) for m in masks), torch.tensor(0))
    parts = []
    for i, (keyset, symbols, mask) in enumerate(zip(keysets, places, masks, strict=True)):
        symbols = {**symbols, "n_visible": visible}
        gap = None if branch.decay is None or i else _gap(call, inputs[branch.decay], branch.decay)
        with torch.no_grad():
            present = mask & (_score(call, keyset, symbols, inputs, mask, gap) != -torch.inf)
        score = _score(call, keyset, symbols, inputs, present, gap)
        v = read_view(call, keyset.v, present.any(-2))
        if v.shape[2] != present.shape[-1]:
            raise InputError(f"{keyset.v.tensor}: got {v.shape[2]} values for {present.shape[-1]} keys")
        weight = None
        if branch.weight is not None:
            weight = evaluate(branch.weight, Environment(symbols, inputs, present)).expand(present.shape)
            weight = torch.where(present, weight, 0.0)
        parts.append((score, present, weight, v))
    widths = {v.shape[3] for _, _, _, v in parts}
    if len(widths) > 1:
        raise InputError(f"v: the key sets of a branch have values of different widths: {sorted(widths)}")
    return Rows(
        torch.cat([p[0] for p in parts], -1),
        torch.cat([p[1] for p in parts], -1),
        None if branch.weight is None else torch.cat([p[2] for p in parts if p[2] is not None], -1),
        torch.cat([p[3] for p in parts], -2),
        {**row, "n_k": places[0]["n_k"], "n_visible": visible},
        inputs,
    )


def row_symbols(call: Call) -> Symbols:
    """The symbols of a row, shaped to broadcast over (B, H, Nq, N): positions, coordinates, sizes."""
    import torch

    b = torch.arange(call.n_b, device=call.device).reshape(-1, 1, 1, 1)
    q = torch.arange(call.n_q, device=call.device).reshape(-1, 1)
    return {
        "b": b if call.segment is None else b[call.segment],
        "h": torch.arange(call.n_h, device=call.device).reshape(-1, 1, 1),
        "q": q,
        **_coordinates(call, "q", q),
        "n_b": torch.tensor(call.n_b),
        "n_h": torch.tensor(call.n_h),
        "n_q": torch.tensor(call.n_q),
        "n_k": torch.tensor(call.n_k) if call.lengths is None else call.lengths,
    }


def _key_symbols(call: Call, keyset: KeySet, main: bool) -> Symbols:
    import torch

    count = call.operands[keyset.dots[0].k.tensor].shape[2]
    kv = torch.arange(count, device=call.device)
    if not main:
        return {"kv": kv, "n_k": torch.tensor(count)}
    length = torch.tensor(count) if call.lengths is None else call.lengths
    return {"kv": kv, "n_k": length, **_coordinates(call, "kv", kv)}


def _coordinates(call: Call, axis: str, flat: Tensor) -> Symbols:
    found: Symbols = {}
    if isinstance(call.spec.space, Grid):
        for i, size in reversed(list(enumerate(call.spec.space.dims))):
            found[f"{axis}[{i}]"], flat = flat % size, flat // size
    return found


def _within(call: Call, branch: Branch, symbols: Symbols) -> Tensor:
    """What the space and the decay say about the main keys: inside the paged length, not after the query."""
    import torch

    inside = torch.tensor(True) if call.lengths is None else symbols["kv"] < call.lengths
    return inside if branch.decay is None else inside & (symbols["kv"] <= symbols["q"])


def _score(
    call: Call, keyset: KeySet, symbols: Symbols, inputs: dict[str, Tensor], guard: Tensor, gap: Tensor | None
) -> Tensor:
    """The score of each pair under the guard, 0 elsewhere."""
    import torch

    dots = {f"dot[{i}]": _dot(call, d, symbols, inputs, guard, gap) for i, d in enumerate(keyset.dots)}
    joined = evaluate(keyset.joined(), Environment({**symbols, **dots}, inputs, guard))
    score = evaluate(keyset.score, Environment({**symbols, "score": joined}, inputs, guard))
    return torch.where(guard, score, 0.0)


def _dot(
    call: Call, dot: Dot, symbols: Symbols, inputs: dict[str, Tensor], guard: Tensor, gap: Tensor | None
) -> Tensor:
    import torch

    asked = guard.any(-1)
    q, k = read_view(call, dot.q, asked), read_view(call, dot.k, guard.any(-2))
    if q.shape[3] != k.shape[3]:
        raise InputError(f"{dot.k.tensor}: a view has width {k.shape[3]}, but that of {dot.q.tensor} has {q.shape[3]}")
    if q.shape[2] != guard.shape[2] or k.shape[2] != guard.shape[3]:
        raise InputError(
            f"{dot.q.tensor}, {dot.k.tensor}: got {q.shape[2]} queries and {k.shape[2]} keys in a dot, "
            f"{guard.shape[2]} and {guard.shape[3]} in the others"
        )
    if gap is not None and gap.shape[-1] not in (1, q.shape[3]):
        raise InputError(f"decay: got {gap.shape[-1]} channels for a dot of width {q.shape[3]}")
    width = torch.tensor(q.shape[3])
    scale = evaluate(dot.scale, Environment({**symbols, "d": width}, inputs, asked[..., None]))
    return torch.where(guard, pair_dots(q, k, guard, gap), 0.0) * scale


def pair_dots(q: Tensor, k: Tensor, present: Tensor, gap: Tensor | None = None) -> Tensor:
    """q_i . k_j (times exp(gap_ij), per channel or not), such that absent pairs do not meet in the gradient either."""
    import torch

    if gap is None and _finite(q, k):
        return q @ k.mT
    pair = present[..., None]
    product = torch.where(pair, q[..., :, None, :], 0.0) * torch.where(pair, k[..., None, :, :], 0.0)
    if gap is not None:
        product = product * torch.exp(torch.where(pair, gap, 0.0))
    return product.sum(-1)


def weighted_sum(weight: Tensor, v: Tensor, present: Tensor) -> Tensor:
    """sum_j weight_ij v_j over present keys; weight is 0 elsewhere."""
    import torch

    if _finite(v):
        return weight @ v
    pair = present[..., None]
    return (weight[..., None] * torch.where(pair, v[..., None, :, :], 0.0)).sum(-2)


def _finite(*tensors: Tensor) -> bool:
    import torch

    return all(bool(torch.isfinite(t).all()) for t in tensors)


def _gap(call: Call, decay: Tensor, name: str) -> Tensor:
    """The sum of the log decays over kv < t <= q, (B, H, Nq, Nk, channels or 1)."""
    import torch

    if not decay.shape[2] == call.n_q == call.n_k:
        raise InputError(
            f"{name}: got {decay.shape[2]} decays for {call.n_q} queries and {call.n_k} keys; all are equal"
        )
    steps = decay if decay.dim() == 4 else decay[..., None]
    if call.segment is not None and steps.shape[0] > 1:
        steps = steps[call.segment : call.segment + 1]
    steps = steps.expand(call.batches, call.n_h, -1, -1)
    closed = steps == -torch.inf
    total = torch.where(closed, 0.0, steps).cumsum(2)
    shut = closed.cumsum(2)
    gap = total[:, :, :, None] - total[:, :, None]
    # A difference of infinite sums would be NaN: a decay of -inf in between is counted apart.
    return torch.where(shut[:, :, :, None] > shut[:, :, None], -torch.inf, gap)
