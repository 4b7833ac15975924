"""Affine terms of positions in a score, taken apart: what depends on the query alone, and what on the key alone.

A slope times kv - q is one number for each pair, and a few instructions. With kv = start + lane, where `start` is the
first key of a tile, it is slope * (start - q) for each query and slope * lane for each key: pairs are left with two
additions. Counted from the tile, positions are small; slope * kv - slope * q would lose their difference for long
sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from attngen.codegen.analysis import frame as frames
from attngen.codegen.analysis.affine import Affine, affine, atom_form
from attngen.codegen.analysis.bounds import assumptions
from attngen.codegen.analysis.frame import ROWS, depends_on
from attngen.codegen.plan import BranchPlan, Plan
from attngen.ir.expr import Expr, Op, op, postorder, rebuild, sym

START, LANE = sym("start"), sym("lane")
KEYS = frames.KEYS | {"lane"}
DOTS = frozenset(f"dot[{i}]" for i in range(8))


@dataclass(frozen=True, slots=True)
class _Parts:
    """A sum: of what no key changes, of what no query changes, and of the rest."""

    of_query: Expr | None = None
    of_key: Expr | None = None
    rest: Expr | None = None

    def map(self, name: str, *more: Expr) -> _Parts:
        """A linear operator on each part."""
        parts = (self.of_query, self.of_key, self.rest)
        return _Parts(*(None if part is None else op(name, part, *more) for part in parts))

    def plus(self, other: _Parts, name: str = "add") -> _Parts:
        """The sum, or with "sub" the difference."""
        return _Parts(
            _joined(self.of_query, other.of_query, name),
            _joined(self.of_key, other.of_key, name),
            _joined(self.rest, other.rest, name),
        )


def hoisted(score: Expr) -> Expr:
    """The same score with fewer operations for each pair, over `start` and `lane` as well; itself if none are saved.

    It differs by roundings: a sum of floats is taken in another order.
    """
    parts = _parts(score)
    total: Expr | None = None
    for part in (parts.rest, parts.of_query, parts.of_key):
        total = part if total is None else total if part is None else op("add", total, part)
    assert total is not None
    return total if _operations(total) < _operations(score) else score


def with_hoisted_scores(plan: Plan) -> Plan:
    """The plan for kernels that loop over tiles of keys."""
    return replace(plan, branches=tuple(_branch(branch) for branch in plan.branches))


def _branch(branch: BranchPlan) -> BranchPlan:
    keysets = tuple(replace(k, core=hoisted(without_signs(k.core, k.mask))) for k in branch.keysets)
    return replace(branch, keysets=keysets)


def without_signs(score: Expr, mask: Expr) -> Expr:
    """The score with x for |x|, where no visible pair has a negative x: a distance under a causal mask."""
    known = assumptions(mask)

    def positive(form: Affine) -> bool:
        return any(not (form - each).terms and (form - each).constant >= 0 for each in known)

    def change(node: Expr) -> Expr | None:
        match node:
            case Op(name="abs", args=(x,)) if x.type == "int":
                return x if positive(affine(x)) else op("neg", x) if positive(-affine(x)) else None
        return None

    return rebuild(score, change)


def _operations(root: Expr) -> int:
    """How many operators run for each pair, with what makes integers floats beside floats."""
    pairs = [node for node in postorder(root) if isinstance(node, Op) and _of_pairs(node)]
    floats = [node for node in pairs if node.type == "float" and node.name != "to_float"]
    return len(pairs) + sum(a.type == "int" and _of_pairs(a) for node in floats for a in node.args)


def _of_pairs(node: Expr) -> bool:
    return depends_on(node, DOTS) or (depends_on(node, ROWS) and depends_on(node, KEYS))


def _parts(e: Expr) -> _Parts:
    if depends_on(e, KEYS | DOTS):
        if e.type == "int":
            return _of_integer(e)
        match e:
            case Op(name="to_float", args=(inner,)):
                return _floats(inner)
            case Op(name="add" | "sub" as name, args=(a, b)) if e.type == "float":
                return _floats(a).plus(_floats(b), name)
            case Op(name="neg", args=(a,)):
                return _parts(a).map("neg")
            case Op(name="mul", args=(a, b)) if _uniform(a):
                return _floats(b).map("mul", a)
            case Op(name="mul" | "truediv" as name, args=(a, b)) if _uniform(b):
                return _floats(a).map(name, b)
    if not depends_on(e, KEYS | DOTS):
        return _Parts(of_query=e)
    return _Parts(rest=e) if _of_pairs(e) else _Parts(of_key=e)


def _floats(e: Expr) -> _Parts:
    """The parts of an operand that its operator takes as a float."""
    match e:
        case Op(name="abs", args=(x,)) if x.type == "int":
            # A distance: numbers of rows and keys are made floats apart, and pairs are left with |a + b|.
            a, b = _floats(x).of_query, _floats(x).of_key
            if a is not None and b is not None:
                return _Parts(rest=op("abs", op("add", a, b)))
    found = _parts(e)
    return found.map("to_float") if e.type == "int" else found


def _of_integer(e: Expr) -> _Parts:
    """An integer that is affine in the position of the key; any other stays whole."""
    form, key = affine(e), sym("kv")
    step = form.coefficient(key)
    others = form.without(key)
    if step == 0 or any(depends_on(atom, KEYS) for atom, _ in others.terms):
        return _Parts(rest=e)
    of_query = others + atom_form(START) * step
    return _Parts(of_query=of_query.expr(), of_key=Affine(((LANE, step),), 0).expr())


def _uniform(e: Expr) -> bool:
    """Whether it is one number for a whole tile."""
    return not depends_on(e, ROWS | KEYS | DOTS)


def _joined(a: Expr | None, b: Expr | None, name: str) -> Expr | None:
    if b is None:
        return a
    if a is None:
        return op("neg", b) if name == "sub" else b
    return op(name, a, b)
