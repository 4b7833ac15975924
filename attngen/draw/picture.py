"""The pictures of a spec: one raster for each mask and each distinct pattern of it over batches and heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attngen.codegen.analysis import Arrays, Sizes, patterns
from attngen.draw.cells import Cells, cells
from attngen.draw.counts import counts
from attngen.errors import InputError
from attngen.ir.expr import Expr, loads, sym, symbols
from attngen.ir.nodes import Grid
from attngen.samples.limits import limits

if TYPE_CHECKING:
    from attngen.spec import Spec

Raster = Callable[[int, int, int], tuple[int, int]]
"""raster(n_q, n_k, tile) -> queries and keys of a cell."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One mask: which branch and which batches and heads it is for (empty where there is nothing to tell apart)."""

    title: str
    cells: Cells
    pairs: int | None = None
    undecided: tuple[str, ...] = ()

    def visible(self) -> str:
        """The visible share in words."""
        least, most = self.cells.visible() if self.pairs is None else (self.pairs, self.pairs)
        total = max(1, self.cells.sizes.n_q * self.cells.sizes.n_k)
        if least == most:
            return f"visible {_percent(least / total)} ({least} of {total} pairs)"
        return f"visible between {_percent(least / total)} and {_percent(most / total)}"

    def size(self) -> str:
        """Size of the whole and of a cell in words."""
        sizes = self.cells.sizes
        return f"{sizes.n_q} queries x {sizes.n_k} keys, one cell is {self.cells.height} x {self.cells.width}"


def pictures(
    spec: Spec,
    n_q: int | None = None,
    n_k: int | None = None,
    *,
    raster: Raster,
    n_b: int | None = None,
    n_h: int | None = None,
    tile: int = 1,
    values: Mapping[str, Any] | None = None,
) -> tuple[Picture, ...]:
    """The pictures of a spec for n_q queries and n_k keys (a grid knows its own), batch `n_b` and `n_h` heads.

    `values` are the inputs that the spec does not capture, tensors or numbers, by name; a mask that reads one which is
    missing stays undecided where it matters. Raises `InputError` for a size that does not fit.
    """
    n_q, n_k = _sizes(spec, n_q, n_k)
    for name, given in (("queries", n_q), ("keys", n_k), ("tile", tile)):
        if given < 1:
            raise InputError(f"size: got {given} for {name}; allowed: an integer >= 1")
    known = {name: binding.fetch() for name, binding in spec.bindings.items()} | dict(values or {})
    arrays = {name: as_array(value) for name, value in known.items()}
    result = []
    masks = [(i, j, keyset) for i, one in enumerate(spec.ir.branches) for j, keyset in enumerate(one.all_keysets())]
    for i, j, keyset in masks:
        keys = n_k if j == 0 else _keys_of(arrays, keyset.dots[0].k.tensor)
        if keys is None:
            continue
        sizes = Sizes(n_q, keys, n_b or _extent(spec, arrays, "b"), n_h or _extent(spec, arrays, "h"))
        title = f"branch {i}" if len(spec.ir.branches) > 1 else ""
        title = f"{title}, key set {j}".lstrip(", ") if j else title
        undecided = tuple(dict.fromkeys(e.tensor for e in loads(keyset.mask) if e.tensor not in arrays))
        for label, found, pairs in _distinct(keyset.mask, spec, sizes, raster, tile, arrays):
            result.append(Picture(": ".join(filter(None, (title, label))), found, pairs, undecided))
    return tuple(result)


def _sizes(spec: Spec, n_q: int | None, n_k: int | None) -> tuple[int, int]:
    """What was asked for; else what the spec fixes, or 1024 as far as the tensors that it captured reach."""
    known = limits(spec)
    if isinstance(spec.ir.space, Grid):
        tokens = known.exact["q"]
        if (n_q or tokens, n_k or n_q or tokens) != (tokens, tokens):
            raise InputError(f"size: got {n_q} x {n_k or n_q}; the grid of this spec has {tokens} tokens")
        return tokens, tokens
    guess = {axis: known.exact.get(axis, min(1024, known.most.get(axis, 1024))) for axis in ("q", "kv")}
    n_q = guess["q"] if n_q is None else n_q
    return n_q, (known.exact.get("kv", n_q) if n_k is None else n_k)


def _distinct(
    mask: Expr, spec: Spec, sizes: Sizes, raster: Raster, tile: int, arrays: Mapping[str, Any]
) -> list[tuple[str, Cells, int | None]]:
    depends, bounds = patterns(mask), Arrays(arrays)
    cell = raster(sizes.n_q, sizes.n_k, tile)
    found: list[tuple[list[tuple[int, int]], Cells]] = []
    for b in range(sizes.n_b if depends.b else 1):
        for h in range(sizes.n_h if depends.h else 1):
            one = cells(mask, spec.ir.space, sizes, cell, tile=tile, loads=bounds, b=b, h=h)
            same = next((places for places, other in found if other.same(one)), None)
            if same is None:
                found.append(([(b, h)], one))
            else:
                same.append((b, h))
    result = []
    for places, one in found:
        label = _label(places, depends.b, depends.h) if len(found) > 1 else ""
        least, most = one.visible()
        b, h = places[0]
        exact = None if least == most else counts(mask, spec.ir.space, sizes, bounds, b=b, h=h)
        result.append((label, one, None if exact is None else exact.pairs))
    return result


def _label(places: list[tuple[int, int]], by_batch: bool, by_head: bool) -> str:
    if by_batch and by_head:
        return "batch, head " + " ".join(f"({b}, {h})" for b, h in places[:8]) + (" ..." if len(places) > 8 else "")
    numbers = [h if by_head else b for b, h in places]
    word = "head" if by_head else "batch"
    plural = "s" if by_head else "es"
    return f"{word}{plural if len(numbers) > 1 else ''} {_spans(numbers)}"


def _spans(numbers: list[int]) -> str:
    """0, 1, 2, 5 => 0-2, 5"""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][-1] == number - 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ", ".join(f"{s[0]}-{s[-1]}" if len(s) > 1 else str(s[0]) for s in spans)


def _extent(spec: Spec, arrays: Mapping[str, Any], axis: str) -> int:
    """How many batches or heads the inputs that masks read tell apart; 8 heads for a mask that counts them itself."""
    exprs = [keyset.mask for branch in spec.ir.branches for keyset in branch.all_keysets()]
    known = [node for node in loads(*exprs) if node.tensor in arrays]
    indexed = [pair for node in known for pair in zip(node.indices, arrays[node.tensor].shape, strict=False)]
    sizes = [int(size) for index, size in indexed if index == sym(axis)]
    if sizes:
        return max(1, *sizes)
    return 8 if axis == "h" and {"h", "n_h"} & symbols(*exprs) else 1


def _keys_of(arrays: Mapping[str, Any], name: str) -> int | None:
    return int(arrays[name].shape[2]) if name in arrays else None


def as_array(value: Any) -> Any:
    """A tensor or number as a numpy array; bfloat16 as float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    return np.asarray(value)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if share >= 0.0005 or share == 0 else f"{100 * share:.3g} %"
