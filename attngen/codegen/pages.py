"""Paged keys: how many keys a page table holds, and whether what it says of a call is inside the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attngen.codegen.analysis import whole_mask
from attngen.errors import InputError
from attngen.ir.expr import Expr, load, substitute, sym
from attngen.ir.nodes import Paged, Space

if TYPE_CHECKING:
    from collections.abc import Mapping


def capacity(space: Paged, table: tuple[int, ...]) -> int:
    """The keys that a page table of this shape holds for each batch."""
    return table[1] * space.page


def mask_of_batches(mask: Expr, space: Space) -> Expr:
    """The mask with the number of keys of each batch written out: the analysis knows what pages hold."""
    if not isinstance(space, Paged):
        return mask
    return substitute(whole_mask(mask, space), {"n_k": load(space.lengths, (sym("b"),), "int")})


def check_page_shapes(space: Paged, shapes: Mapping[str, tuple[int, ...]], n_b: int, dense: Mapping[str, int]) -> None:
    """One row of the page table and one length for each batch, or one for all.

    `dense` gives the tokens of the keys and values beside k and v, which do not lie in pages: as many as those hold.
    """
    most = capacity(space, shapes[space.table])
    for name, tokens in dense.items():
        if tokens != most:
            raise InputError(f"{name}: got {tokens} keys; the page table holds {most}")
    rows, lengths = shapes[space.table][0], shapes[space.lengths][0]
    if rows not in (1, n_b) or lengths not in (1, n_b):
        raise InputError(f"{space.table}, {space.lengths}: got {rows} and {lengths} rows, q has {n_b}")


def check_pages(space: Paged, table: Any, lengths: Any, pools: Mapping[str, int]) -> None:
    """Raises `InputError` for a length that the table does not hold, and for a page in use that is in no pool.

    `table` and `lengths` are numpy arrays; `pools` gives the number of pages of each tensor that is paged.
    """
    most = capacity(space, table.shape)
    if lengths.size and (lengths.min() < 0 or lengths.max() > most):
        raise InputError(f"{space.lengths}: lengths must be in 0 .. {most}, the keys that the page table holds")
    used = np.arange(table.shape[1]) < -(-lengths[:, None] // space.page)
    for name, pages in pools.items():
        if bool((used & ((table < 0) | (table >= pages))).any()):
            where = np.argwhere(used & ((table < 0) | (table >= pages)))[0]
            found = int(np.broadcast_to(table, used.shape)[tuple(where)])
            raise InputError(
                f"{space.table}: page {found} of sequence {int(where[0])} is in use, but {name} has the pages "
                f"0 .. {pages - 1}"
            )


def page_flags(space: Paged, arrays: Mapping[str, Any], pools: Mapping[str, int]) -> list[tuple[Any, str]]:
    """The same of arrays that come later: what must be false, and what is wrong where it is true."""
    table, lengths = arrays[space.table], arrays[space.lengths]
    most = capacity(space, table.shape)
    text = f"{space.lengths}: lengths must be in 0 .. {most}, the keys that the page table holds"
    found = [((lengths < 0) | (lengths > most), text)]
    used = np.arange(table.shape[1]) * space.page < lengths.reshape(-1, 1)
    for pages in dict.fromkeys(pools.values()):
        names = " and ".join(name for name, count in pools.items() if count == pages)
        text = f"{space.table}: a page is in use that is not among the pages 0 .. {pages - 1} of {names}"
        found.append((used & ((table < 0) | (table >= pages)), text))
    return found
