"""Index classes in words: how each indexed tensor varies over queries and keys."""

from __future__ import annotations

from attngen.codegen.analysis.index_class import IndexClass, accesses
from attngen.codegen.plan import BranchPlan, KeySetPlan

WORDS = {
    IndexClass.SCALAR: "one element for the whole call",
    IndexClass.PER_HEAD: "per batch and head",
    IndexClass.PER_QUERY: "per query: read once for each row",
    IndexClass.PER_KEY: "per key",
    IndexClass.RELATIVE: "relative: by q - kv, along diagonals",
    IndexClass.BUCKETED: "bucketed: by a function of q - kv",
    IndexClass.FULL_PAIR: "full pair: one entry for each query and key",
    IndexClass.IRREGULAR: "irregular: indexed by data",
}


def load_classes(branch: BranchPlan, keyset: KeySetPlan) -> tuple[tuple[str, str], ...]:
    """The class of each tensor that the mask, the score or the weight reads."""
    exprs = (e for e in (keyset.mask, keyset.core, keyset.alpha, branch.weight) if e is not None)
    found = ((a.load.tensor, WORDS[a.overall]) for a in accesses(*exprs) if a.load.indices)
    return tuple(dict.fromkeys(found))
