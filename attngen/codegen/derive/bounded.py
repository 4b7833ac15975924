"""Masks that say themselves where the keys of a tile end, so that no pair is asked twice."""

from __future__ import annotations

from attngen.codegen.analysis.frame import KEYS, depends_on
from attngen.ir.expr import Expr, Op, op, sym

KV, STOP = sym("kv"), sym("stop")


def bounded(mask: Expr) -> Expr | None:
    """A mask that holds where the given one does and kv < stop; None where it costs as much as asking for both.

    A comparison of kv with a number of the row is one with the lesser of that number and the end.
    """
    match mask:
        case Op(name="and", args=(a, b)):
            first = bounded(a)
            second = bounded(b) if first is None else None
            if first is None and second is None:
                return None
            return op("and", first or a, second or b)
        case Op(name="le" | "lt" as name, args=(x, limit)) | Op(name="ge" | "gt" as name, args=(limit, x)) if x == KV:
            if limit.type != "int" or depends_on(limit, KEYS):
                return None
            below = name in ("lt", "gt")
            return op("lt" if below else "le", KV, op("minimum", limit, STOP if below else op("sub", STOP, 1)))
    return None
