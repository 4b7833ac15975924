"""Where a score may leave the numbers of float32.

A raw product of finite vectors is infinite only where these hold numbers of 1e18 or more, which half precision does not
have. A score program can make infinities of ordinary numbers: exp(score) is one from a score of 89 on.
"""

from __future__ import annotations

import math

from attngen.codegen.analysis.frame import depends_on
from attngen.codegen.derive.hoist import DOTS
from attngen.codegen.plan import BranchPlan
from attngen.ir.expr import Expr, Op, postorder
from attngen.ir.signs import span_of

STEEP = frozenset({"exp", "exp2", "expm1", "pow", "rsqrt"})
"""Functions that are infinite at ordinary numbers."""


def blows_up(score: Expr) -> bool:
    """Whether a score program may make infinity of ordinary numbers; not where a function bounds what it made."""
    found: dict[int, bool] = {}
    for node in postorder(score):
        match node:
            case Op(name=name, args=args):
                steep = name in STEEP or (name in ("truediv", "safe_div") and depends_on(args[1], DOTS))
                grown = steep or any(found[id(a)] for a in args)
                found[id(node)] = grown and not math.isfinite(span_of(node).high)
            case _:
                found[id(node)] = False
    return found[id(score)]


def scores_blow_up(branch: BranchPlan) -> bool:
    """Whether the program of any key set of a branch does."""
    return any(blows_up(keyset.core) for keyset in branch.keysets)


def products_fit(dtype: str) -> bool:
    """Whether raw products of vectors of this type are finite."""
    return dtype == "fp16"
