"""How many heads a result has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attngen.errors import InputError
from attngen.ir.evaluate import Environment, evaluate
from attngen.ir.nodes import Spec
from attngen.ir.walk import views

if TYPE_CHECKING:
    pass


def result_heads(spec: Spec, heads: Mapping[str, int]) -> int:
    """How many heads the result has, from the heads of each viewed tensor.

    Those of q (or, where q has one head that is shared, the most of any tensor); with head maps the most for which
    every map stays inside its tensor: `head: 2 * h + 1` on 8 heads gives 4. Raises `InputError` where heads do not
    divide.
    """
    import torch

    most = heads["q"] if heads["q"] != 1 else max(heads[v.tensor] for v in views(spec))
    maps = [(v.head, heads[v.tensor]) for v in views(spec) if v.head is not None]
    for count in range(most, 0, -1):
        h, n_h = torch.arange(count), torch.tensor(count)
        mapped = [(evaluate(e, Environment({"h": h, "n_h": n_h, "heads": torch.tensor(n)})), n) for e, n in maps]
        if all(bool((at >= 0).all() and (at < n).all()) for at, n in mapped):
            break
    else:
        count = 0
    for view in views(spec):
        size = heads[view.tensor]
        if view.head is None and count and (size == 0 or count % size):
            raise InputError(f"{view.tensor}: got {size} heads, which do not divide the {count} heads of the result")
    return count
