"""The facts of each key set: ranges, patterns, rows, loads, tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from attngen.codegen.analysis import Arrays, Ranges, Sizes, Statistics, patterns, schedule
from attngen.codegen.analysis.boxes import BoxVisits, box_visits, shapes
from attngen.codegen.analysis.rows import Facts, rows_are_safe
from attngen.codegen.analysis.tiles import size_symbols
from attngen.codegen.boxes import Boxes
from attngen.codegen.pages import mask_of_batches
from attngen.codegen.plan import BranchPlan, KeySetPlan, Plan
from attngen.draw.cells import cells
from attngen.draw.counts import Counts, counts
from attngen.draw.picture import as_array
from attngen.explain.explanation import KeySetFacts
from attngen.explain.loads import load_classes
from attngen.explain.loops import laws
from attngen.ir.expr import Expr, loads
from attngen.ir.nodes import Grid, Segments, Space
from attngen.ir.text_expr import expr_text

VOLUME = 64
"""Tokens of a tile whose shapes are simulated, where the kernel's own tiles are no boxes."""

CELLS = 32
"""Pairs without a closed form are counted from a raster of so many rows and columns, refined at the boundary."""


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """A call: its plan, its tensors and numbers by name, (batches, heads, queries, keys), the tile of the config.

    `counted` is the plan whose masks say what is visible where packed sequences lie side by side.
    """

    plan: Plan
    counted: Plan
    operands: Mapping[str, Any]
    extents: tuple[int, int, int, int]
    tile: tuple[int, int] | None
    layout: str
    box: tuple[int, ...] = ()

    def keys_of(self, keyset: KeySetPlan, index: int) -> int:
        """The number of keys of a key set; the first one's are those of k."""
        if index == 0:
            return self.extents[3]
        tensor = self.operands[keyset.dots[0].k.tensor]
        return int(tensor.shape[1 if self.layout == "bnhd" else 2])

    def mask(self, branch: int, keyset: int) -> Expr:
        """What says which keys of a key set are visible. Only the main keys of a branch lie in pages."""
        mask = self.counted.branches[branch].keysets[keyset].mask
        return mask if keyset else mask_of_batches(mask, self.counted.spec.space)


def keyset_facts(setting: Setting) -> tuple[KeySetFacts, ...]:
    """The facts of every key set, branch by branch."""
    return tuple(_all(setting))


def _all(setting: Setting) -> Iterator[KeySetFacts]:
    spec = setting.plan.spec
    arrays = Arrays({name: as_array(setting.operands[name]) for name in sorted(_read(setting))})
    for i, branch in enumerate(setting.plan.branches):
        for j, keyset in enumerate(branch.keysets):
            n_b, n_h, n_q, _ = setting.extents
            sizes = Sizes(n_q, setting.keys_of(keyset, j), n_b, n_h)
            title = f"branch {i}" if len(spec.branches) > 1 else ""
            title = f"{title}, key set {j}".lstrip(", ") if len(branch.keysets) > 1 else title
            counted = setting.counted.branches[i].keysets[j]
            within = counted.ranges or counted.within
            yield _facts(setting, branch, keyset, setting.mask(i, j), counted.space, within, sizes, arrays, title)


def _read(setting: Setting) -> set[str]:
    """The tensors and numbers that masks read."""
    counted = setting.counted
    masks = [setting.mask(i, j) for i, branch in enumerate(counted.branches) for j in range(len(branch.keysets))]
    found = {load.tensor for load in loads(*masks)}
    return {name for name in setting.operands if name in found or counted is not setting.plan}


def _facts(
    setting: Setting,
    branch: BranchPlan,
    keyset: KeySetPlan,
    mask: Expr,
    space: Space,
    within: Ranges | None,
    sizes: Sizes,
    arrays: Arrays,
    title: str,
) -> KeySetFacts:
    """The facts of a key set; `mask` and `space` say what is visible, whatever else the keys lie in."""
    depends = patterns(mask)
    places = [(b, h) for b in range(sizes.n_b if depends.b else 1) for h in range(sizes.n_h if depends.h else 1)]
    times = sizes.n_b * sizes.n_h // max(1, len(places))
    exact = [counts(mask, space, sizes, arrays, b=b, h=h) for b, h in places]
    known = [one for one in exact if one is not None]
    closed = len(known) == len(exact) and bool(known) and min(sizes.n_q, sizes.n_k) > 0
    least, most = (sum(one.pairs for one in known),) * 2 if closed else _bounds(mask, space, sizes, arrays, places)
    tabled = schedule(mask, space, sizes, setting.tile or (64, 64), arrays, within=within)
    simulated = _shapes(keyset, setting.box, sizes, arrays, places, times)
    own = next((one for one in simulated if one.boxes.sides == setting.box), None)
    tile, tiles = setting.tile, None if setting.tile is None else tabled.statistics()
    if own is not None:
        volume, cells = own.boxes.volume, max(1, sizes.n_q * sizes.n_k * sizes.n_b * sizes.n_h)
        shares = own.full * volume**2 / cells, min(1.0, own.pairs / cells)
        tile, tiles = (volume, volume), Statistics(own.tiles, own.visited, own.full, own.visited - own.full, *shares)
    return KeySetFacts(
        title=title,
        mask=_line(keyset.mask) if keyset.masked else "none: every key is visible",
        form=_form(keyset),
        visited=_ranges(keyset.ranges, "outer"),
        full=_ranges(keyset.ranges, "inner"),
        patterns=_patterns(depends.b, depends.h, len(tabled.tables)),
        rows=_rows(keyset, setting, sizes, known if closed else []),
        pairs=(least * times, most * times),
        row_keys=(min(c.fewest for c in known), max(c.most for c in known)) if closed else None,
        loads=load_classes(branch, keyset),
        normalizer=laws(branch),
        tile=tile,
        tiles=tiles,
        shapes=simulated,
        box=() if own is None else setting.box,
    )


def _shapes(
    keyset: KeySetPlan, box: tuple[int, ...], sizes: Sizes, arrays: Arrays, places: list[tuple[int, int]], times: int
) -> tuple[BoxVisits, ...]:
    """What tiles of each shape would visit over all batches and heads, fewest pairs first."""
    if not isinstance(keyset.space, Grid) or keyset.ranges is None or not keyset.ranges.axes:
        return ()
    dims = keyset.space.dims
    found = []
    for sides in shapes(dims, prod(box) if box else VOLUME):
        boxes = Boxes(dims, sides)
        every = [box_visits(keyset.ranges.axes, boxes, size_symbols(sizes, b, h), arrays) for b, h in places]
        known = [one for one in every if one is not None]
        if len(known) == len(every):
            totals = (times * sum(getattr(one, name) for one in known) for name in ("tiles", "visited", "full"))
            found.append(BoxVisits(boxes, *totals))
    return tuple(sorted(found, key=lambda one: one.pairs))


def _bounds(mask: Expr, space: Space, sizes: Sizes, arrays: Arrays, places: list[tuple[int, int]]) -> tuple[int, int]:
    if min(sizes.n_q, sizes.n_k) == 0:
        return 0, 0
    cell = (-(-sizes.n_q // CELLS), -(-sizes.n_k // CELLS))
    found = [cells(mask, space, sizes, cell, loads=arrays, b=b, h=h).visible() for b, h in places]
    return sum(least for least, _ in found), sum(most for _, most in found)


def _form(keyset: KeySetPlan) -> str:
    if not keyset.masked:
        return "all keys"
    if keyset.ranges is None:
        return "block table, built per call from the tensors that the mask reads"
    rest = "computed in the kernel" if keyset.ranges.complete else "some tiles left to the mask"
    return f"closed form, {rest}"


def _ranges(ranges: Ranges | None, kind: str) -> tuple[str, ...]:
    if ranges is None:
        return ()
    found = [("kv", one) for one in getattr(ranges, kind)]
    if ranges.axes:
        found = [(f"kv[{i}]", one) for i, axis in enumerate(ranges.axes) for one in getattr(axis, kind)]
    return tuple(f"{_line(one.lo)} <= {key} < {_line(one.hi)}" for key, one in found)


def _patterns(by_batch: bool, by_head: bool, distinct: int) -> str:
    if not by_batch and not by_head:
        return "one, shared by all batches and heads"
    by = " and ".join(word for word, there in (("batch", by_batch), ("head", by_head)) if there)
    return f"the mask depends on the {by}; {distinct} distinct"


def _rows(keyset: KeySetPlan, setting: Setting, sizes: Sizes, known: list[Counts]) -> str:
    space = keyset.space if isinstance(setting.plan.spec.space, Grid) else setting.plan.spec.space
    if not keyset.masked:
        return f"every row sees every key{' of its sequence' if isinstance(space, Segments) else ''}"
    if isinstance(space, Segments):
        safe = "a row may see no key: guarded"
    elif rows_are_safe(keyset.mask, space):
        safe = "every row sees a key, proven for any lengths"
    elif sizes.n_q == sizes.n_k and rows_are_safe(keyset.mask, space, Facts(equal=True)):
        safe = "every row sees a key, proven for equal lengths"
    else:
        safe = "a row may see no key: guarded"
    if not known:
        return safe
    fewest, most = min(c.fewest for c in known), max(c.most for c in known)
    return f"{safe}; here {fewest if fewest == most else f'{fewest} to {most}'} keys"


def _line(e: Expr) -> str:
    return " ".join(expr_text(e).split())
