"""The analysis against brute force: tile classes, schedules, counts of visible keys; and the text form."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from attngen.codegen.analysis import Arrays, Sizes, TileClass, Tiles, classify, schedule
from attngen.draw.counts import counts
from attngen.draw.picture import as_array
from attngen.errors import AttngenError
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.expr import Expr, loads
from attngen.ir.nodes import Grid, Paged, Segments
from attngen.ir.parse import parse
from attngen.ir.reference_call import bind
from attngen.ir.text import text
from attngen.verification.report import Check, verdict
from attngen.verification.subject import Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attngen.samples import Sample

TILES = ((1, 1), (3, 5), (8, 8), (16, 7))
MOST_TILES = 1 << 16


def proofs(subject: Subject) -> Iterator[Check]:
    """Every mask of the spec, tile by tile, against its dense evaluation."""
    call = subject.sample(subject.shape(), "fp32")
    if isinstance(subject.spec.ir.space, Segments | Paged):
        yield Check("tile classes", "skipped", "tiles of packed or paged keys are checked by the values alone")
        return
    masks = [k.mask for branch in subject.spec.ir.branches for k in (branch.all_keysets()[0],)]
    known = set(subject.tensors(call))
    for i, mask in enumerate(masks):
        where = f" {i}" if len(masks) > 1 else ""
        if any(load.tensor not in known for load in loads(mask)):
            yield Check(f"tile classes{where}", "skipped", "the mask reads a router, which is computed per call")
            continue
        yield from _mask(subject, mask, call, where)


def _mask(subject: Subject, mask: Expr, call: Sample, where: str) -> Iterator[Check]:
    seen = dense_mask(subject, mask, call)
    n_b, n_h, n_q, n_k = seen.shape
    sizes, space = Sizes(n_q, n_k, n_b, n_h), subject.spec.ir.space
    arrays = Arrays({name: as_array(value) for name, value in subject.tensors(call).items() if name not in "qkv"})
    wrong = tiles = decided = 0
    for (tile_q, tile_k), b, h in product(TILES, range(n_b), range(n_h)):
        if n_q * n_k // (tile_q * tile_k) > MOST_TILES:
            continue
        q, k = np.arange(0, n_q, tile_q), np.arange(0, n_k, tile_k)
        ends = Tiles((q[:, None], np.minimum(q + tile_q, n_q)[:, None] - 1), (k, np.minimum(k + tile_k, n_k) - 1))
        kind = np.broadcast_to(classify(mask, space, ends, sizes, arrays, b=b, h=h), (len(q), len(k)))
        some, every = (_reduced(seen[b, h], q, k, f) for f in (np.logical_or, np.logical_and))
        wrong += int(((kind == TileClass.NEVER) & some).sum() + ((kind == TileClass.ALWAYS) & ~every).sum())
        tiles += kind.size
        decided += int((kind != TileClass.SOMETIMES).sum())
    detail = f"{tiles} tiles, {decided} decided, {wrong} wrong"
    yield verdict(f"tile classes{where}", wrong == 0, detail)
    yield _scheduled(mask, space, sizes, arrays, seen, where)
    found = [counts(mask, space, sizes, arrays, b=b, h=h) for b in range(n_b) for h in range(n_h)]
    if found and all(found):
        total = sum(one.pairs for one in found if one is not None)
        right = int(seen.sum())
        yield verdict(f"visible pairs{where}", total == right, f"{total} by the closed form, {right} counted")


def _reduced(seen: NDArray[np.bool_], q: Any, k: Any, f: np.ufunc) -> NDArray[np.bool_]:
    return np.asarray(f.reduceat(f.reduceat(seen, q, axis=0), k, axis=1))


def _scheduled(mask: Expr, space: Any, sizes: Sizes, arrays: Arrays, seen: NDArray[np.bool_], where: str) -> Check:
    """Visible pairs lie in visited segments; full segments are visible throughout."""
    tile_q, tile_k = 8, 8
    plan = schedule(mask, space, sizes, (tile_q, tile_k), arrays)
    missed = claimed = 0
    for b, h in product(range(sizes.n_b), range(sizes.n_h)):
        table = plan.table(b, h)
        visited = np.zeros_like(seen[b, h])
        for row in range(-(-sizes.n_q // tile_q)):
            rows = slice(row * tile_q, min((row + 1) * tile_q, sizes.n_q))
            for at in range(int(table.offsets[row]), int(table.offsets[row + 1])):
                keys = slice(int(table.begin[at]), int(table.end[at]))
                visited[rows, keys] = True
                claimed += int(table.full[at] and not seen[b, h][rows, keys].all())
        missed += int((seen[b, h] & ~visited).sum())
    share = plan.statistics()
    detail = f"{share.visited} of {share.tiles} tiles visited, {missed} pairs missed, {claimed} segments wrongly full"
    return verdict(f"schedule{where}", missed == claimed == 0, detail)


def dense_mask(subject: Subject, mask: Expr, call: Sample) -> NDArray[np.bool_]:
    """The mask of every pair (B, H, Nq, Nk), evaluated."""
    import torch

    bound = bind(subject.spec.ir, subject.tensors(call))
    shape = (bound.n_b, bound.n_h, bound.n_q, bound.n_k)
    axes = {name: torch.arange(n).reshape([-1 if i == j else 1 for j in range(4)])
            for i, (name, n) in enumerate(zip(("b", "h", "q", "kv"), shape, strict=True))}  # fmt: skip
    symbols = {**axes, **{f"n_{name[0]}": torch.tensor(n) for name, n in zip(("b", "h", "q", "k"), shape, strict=True)}}
    if isinstance(subject.spec.ir.space, Grid):
        for axis in ("q", "kv"):
            flat = axes[axis]
            for i, size in reversed(list(enumerate(subject.spec.ir.space.dims))):
                symbols[f"{axis}[{i}]"], flat = flat % size, flat // size
    seen = evaluate(mask, Environment(symbols, bound.inputs)).expand(shape)
    return np.asarray(seen.numpy())


def text_form(subject: Subject) -> Iterator[Check]:
    """The text of the spec parses back to an equal spec, and prints the same again."""
    written = text(subject.spec.ir)
    try:
        again = parse(written)
    except AttngenError as problem:
        yield Check("text form", "FAILED", f"it does not parse: {problem.message}")
        return
    holds = again == subject.spec.ir and text(again) == written
    outcome = "equal" if holds else "different"
    yield verdict("text form", holds, f"{len(written.splitlines())} lines, parsed back {outcome}")
