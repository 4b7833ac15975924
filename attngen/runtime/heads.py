"""How many heads a result has, from the head maps of a spec and the heads of the tensors of a call."""

from __future__ import annotations

from collections.abc import Mapping

from attngen.codegen.derive.fold import fold_int
from attngen.errors import InputError
from attngen.ir.nodes import Spec
from attngen.ir.walk import views


def result_heads(spec: Spec, heads: Mapping[str, int]) -> int:
    """The heads of q, or, where q has one that is shared, the most of any tensor.

    With head maps: the most for which every map stays inside its tensor, so `2 * h + 1` on 8 heads gives 4. Raises
    `InputError` where the heads of a tensor do not divide those of the result.
    """
    found = tuple(views(spec))
    most = heads["q"] if heads["q"] != 1 else max(heads[v.tensor] for v in found)
    mapped = [(v.head, heads[v.tensor]) for v in found if v.head is not None]
    count = most
    while count and not all(
        0 <= fold_int(head, {"h": h, "n_h": count, "heads": size}) < size for head, size in mapped for h in range(count)
    ):
        count -= 1
    for view in found:
        size = heads[view.tensor]
        if view.head is None and count and (size == 0 or count % size):
            raise InputError(f"{view.tensor}: got {size} heads, which do not divide the {count} heads of the result")
    return count
