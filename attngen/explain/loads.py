"""Index classes: how each indexed tensor varies over queries and keys."""

from __future__ import annotations

from attngen.codegen.analysis.affine import affine
from attngen.codegen.plan import BranchPlan, KeySetPlan
from attngen.ir.expr import Expr, Load, Sym, loads, sym, symbols

QUERY = frozenset(("q", "q[0]", "q[1]", "q[2]"))
KEY = frozenset(("kv", "kv[0]", "kv[1]", "kv[2]"))


def load_classes(branch: BranchPlan, keyset: KeySetPlan) -> tuple[tuple[str, str], ...]:
    """The class of each tensor that the mask, the score or the weight reads."""
    exprs = (keyset.mask, keyset.core, keyset.alpha, branch.weight)
    return tuple((node.tensor, index_class(node)) for node in loads(*exprs) if node.indices)


def index_class(node: Load) -> str:
    """One of: per head, per query, per key, relative, pair, bucketed, irregular."""
    used = symbols(*node.indices)
    by_query, by_key = bool(used & QUERY), bool(used & KEY)
    if any(loads(index) for index in node.indices):
        return "irregular: indexed by another tensor"
    if not by_query and not by_key:
        return "per batch and head" if used & {"b", "h"} else "one element"
    if by_query and by_key:
        mixed = [index for index in node.indices if symbols(index) & QUERY and symbols(index) & KEY]
        if not mixed:
            return "pair: one element for each query and key"
        relative = all(_is_relative(index) for index in mixed)
        return "relative: by q - kv" if relative else "bucketed: by a function of q and kv"
    return "per query" if by_query else "per key"


def _is_relative(index: Expr) -> bool:
    form = affine(index)
    moving = [(atom, c) for atom, c in form.terms if symbols(atom) & (QUERY | KEY)]
    return (
        len(moving) == 2
        and all(isinstance(atom, Sym) for atom, _ in moving)
        and form.coefficient(sym("q")) == -form.coefficient(sym("kv")) != 0
    )
