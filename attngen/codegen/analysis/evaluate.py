"""Abstract evaluation: what values can an expression take when its symbols range over boxes?

One walk evaluates an expression over arrays of boxes. Integers are evaluated both operator by operator and through
their affine normal form, with and without `x % c` expanded; each result is sound, so their intersection is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from attngen.codegen.analysis import congruence as cg
from attngen.codegen.analysis import interval as iv
from attngen.codegen.analysis.affine import Affine, affine
from attngen.codegen.analysis.congruence import Congruence
from attngen.codegen.analysis.floats import FUNCTIONS, float_operator
from attngen.codegen.analysis.integers import int_operator
from attngen.codegen.analysis.interval import Interval, Truth
from attngen.codegen.analysis.loads import LoadBounds, unknown
from attngen.ir.expr import Const, Expr, Load, Op, Sym

ASSUMPTION_DEPTH = 2


class Evaluator:
    """Evaluates expressions over boxes.

    `symbols` gives the range of each symbol, one array element per box. `loads` bounds tensor elements. `assumptions`
    are affine forms known to be >= 0 in every box; they tighten integer bounds.
    """

    def __init__(
        self,
        symbols: Mapping[str, Interval],
        loads: LoadBounds = unknown,
        assumptions: Sequence[Affine] = (),
    ) -> None:
        self.symbols = symbols
        self.loads = loads
        self.assumptions = assumptions
        self._assuming = 0
        self._numbers: dict[Expr, Interval] = {}
        self._atoms: dict[Expr, Interval] = {}
        self._truths: dict[Expr, Truth] = {}
        self._congruences: dict[Expr, Congruence] = {}

    # --- numbers ------------------------------------------------------------------------------------------------------

    def number(self, e: Expr) -> Interval:
        """Bounds of a number; a bool counts as 0 or 1."""
        found = self._numbers.get(e)
        if found is None:
            match e.type:
                case "bool":
                    truth = self.truth(e)
                    found = iv.ints(np.where(truth.may_be_false, 0, 1), np.where(truth.may_be_true, 1, 0))
                case "int":
                    found = self.form(affine(e), affine(e, True))
                    if isinstance(e, Op) and e.name == "mul":
                        found = iv.meet(found, iv.multiply(self.number(e.args[0]), self.number(e.args[1])))
                case "float":
                    found = self._float(e)
            self._numbers[e] = found
        return found

    def real(self, e: Expr) -> Interval:
        """Bounds of a number as a float."""
        return iv.to_float(self.number(e))

    def form(self, plain: Affine, expanded: Affine | None = None) -> Interval:
        """Bounds of an affine form, given without and with `x % c` expanded."""
        # What an assumption speaks of is bounded without assumptions: two that speak of each other would never end.
        depth = 0 if self._assuming else ASSUMPTION_DEPTH
        result = self._sum(plain, depth)
        if expanded is not None and expanded != plain:
            result = iv.meet(result, self._sum(expanded, depth))
        return result

    def _sum(self, form: Affine, depth: int) -> Interval:
        total: Interval | None = None
        for a, c in form.terms:
            if c == -1 and total is not None:
                total = iv.subtract(total, self._atom(a))
                continue
            term = iv.scale_int(self._atom(a), c)
            total = term if total is None else iv.add(total, term)
        constant = iv.ints(form.constant, form.constant)
        if total is None:
            return constant
        if form.constant:
            total = iv.add(total, constant)
        return self._assumed(form, total, depth) if self.assumptions and depth else total

    def _assumed(self, form: Affine, found: Interval, depth: int) -> Interval:
        """form = c * known + rest with known >= 0, so form >= rest for c > 0 and form <= rest for c < 0."""
        for known in self.assumptions:
            for a, by in known.terms:
                c, remainder = divmod(form.coefficient(a), by)
                if c == 0 or remainder:
                    continue
                self._assuming += 1
                rest = self._sum(form - known * c, depth - 1)
                self._assuming -= 1
                found = Interval(np.maximum(found.lo, rest.lo), found.hi) if c > 0 else Interval(
                    found.lo, np.minimum(found.hi, rest.hi))  # fmt: skip
        return found

    def _atom(self, e: Expr) -> Interval:
        found = self._atoms.get(e)
        if found is None:
            match e:
                case Const(value=value):
                    found = iv.ints(int(value), int(value))
                case Sym(name=name):
                    found = self.symbols.get(name, iv.ANY_INT)
                case Load():
                    found = self._load(e)
                case Op(name="where"):
                    condition = self.truth(e.args[0])
                    found = iv.choose(condition, self.number(e.args[1]), self.number(e.args[2]))
                case Op(name="to_int", args=(inner,)):
                    found = iv.to_int(self.number(inner))
                case Op(name="mod", args=(inner, Const(value=int(by)))) if by > 0:
                    found = self._modulo(inner, by)
                case Op():
                    found = int_operator(e, [self.number(a) for a in e.args])
                case _:
                    raise TypeError(f"not an expression: {e!r}")
            self._atoms[e] = found
        return found

    def _modulo(self, inner: Expr, by: int) -> Interval:
        plain = iv.modulo(self.number(inner), iv.ints(by, by))
        known = cg.modulo(self._congruence(affine(inner)), by)
        step = np.where(known.stride == 0, 1, known.stride)
        lo = np.where(known.stride == 0, known.residue, known.residue % step)
        hi = np.where(known.stride == 0, known.residue, by - step + lo)
        return iv.meet(plain, iv.ints(lo, hi))

    def _load(self, e: Load) -> Interval:
        indices = [self.number(i) for i in e.indices]
        found = self.loads(e, tuple(i.lo for i in indices), tuple(i.hi for i in indices))
        if e.type == "float":
            return iv.ANY_FLOAT if found is None else iv.floats(*found)
        if found is None:
            return iv.ANY_INT if e.type == "int" else iv.ints(0, 1)
        lo, hi = found
        return iv.to_int(iv.floats(lo, hi)) if lo.dtype.kind == "f" else iv.ints(lo, hi)

    def _float(self, e: Expr) -> Interval:
        match e:
            case Const(value=value):
                return iv.floats(float(value), float(value))
            case Sym(name=name):
                return self.symbols.get(name, iv.ANY_FLOAT)
            case Load():
                return self._load(e)
            case Op(name="where"):
                return iv.choose(self.truth(e.args[0]), self.real(e.args[1]), self.real(e.args[2]))
            case Op(name=name) if name in FUNCTIONS or name not in ("uniform", "uniform_at", "dim_softmax"):
                return float_operator(e, [self.real(a) for a in e.args])
            case Op():
                return iv.floats(0.0, 1.0)
            case _:
                raise TypeError(f"not an expression: {e!r}")

    # --- congruences --------------------------------------------------------------------------------------------------

    def _congruence(self, form: Affine) -> Congruence:
        return cg.linear(form.constant, ((self._atom_congruence(a), c) for a, c in form.terms))

    def _atom_congruence(self, e: Expr) -> Congruence:
        found = self._congruences.get(e)
        if found is None:
            match e:
                case Op(name="where" | "minimum" | "maximum"):
                    sides = [self._congruence(affine(a)) for a in e.args[-2:]]
                    found = cg.join(*sides)
                case Op(name="mul", args=(a, b)):
                    found = cg.product(self._congruence(affine(a)), self._congruence(affine(b)))
                case Op(name="abs", args=(a,)):
                    inner = self._congruence(affine(a))
                    found = cg.join(inner, cg.linear(0, [(inner, -1)]))
                case Op(name="floordiv", args=(a, Const(value=int(by)))) if by > 0:
                    found = cg.floor_divide(self._congruence(affine(a)), by)
                case Op(name="mod", args=(a, Const(value=int(by)))) if by > 0:
                    found = cg.modulo(self._congruence(affine(a)), by)
                case _:
                    found = cg.ANY
            found = self._congruences[e] = cg.of_interval(self._atom(e), found)
        return found

    # --- truth --------------------------------------------------------------------------------------------------------

    def truth(self, e: Expr) -> Truth:
        """What a bool can be; a number counts as true where it is not 0."""
        found = self._truths.get(e)
        if found is None:
            found = self._truths[e] = self._truth(e)
        return found

    def _truth(self, e: Expr) -> Truth:
        match e:
            case Const(value=value):
                return Truth(np.asarray(bool(value)), np.asarray(not value))
            case Load(type="bool"):
                a = self._load(e)
                return Truth(a.hi != 0, (a.lo <= 0) & (a.hi >= 0))
            case Op(name="not", args=(a,)):
                return self.truth(a).negated()
            case Op(name="and", args=(a, b)):
                return self.truth(a).both(self.truth(b))
            case Op(name="or", args=(a, b)):
                return self.truth(a).either(self.truth(b))
            case Op(name="xor", args=(a, b)):
                return self.truth(a).differs(self.truth(b))
            case Op(name="where", type="bool", args=(c, a, b)):
                condition, x, y = self.truth(c), self.truth(a), self.truth(b)
                return condition.both(x).either(condition.negated().both(y)).both(x.either(y)).either(x.both(y))
            case Op(name="to_bool", args=(a,)) if a.type == "bool":
                return self.truth(a)
            case Op(name="to_bool", args=(a,)):
                z = self.number(a)
                return Truth((z.lo != 0) | (z.hi != 0) | z.nan, (z.lo <= 0) & (z.hi >= 0))
            case Op(name="eq" | "ne" | "lt" | "le" | "gt" | "ge", args=(a, b)):
                return self._compare(e.name, a, b)
            case _:
                return iv.UNKNOWN

    def _compare(self, name: str, a: Expr, b: Expr) -> Truth:
        if a.type == b.type == "bool" and name in ("eq", "ne"):
            differs = self.truth(a).differs(self.truth(b))
            return differs if name == "ne" else differs.negated()
        if "float" in (a.type, b.type):
            x, y = self.real(a), self.real(b)
            nan = x.nan | y.nan
            return _order(name, x.lo < y.hi, x.lo <= y.hi, x.hi > y.lo, x.hi >= y.lo, nan)
        plain = affine(a) - affine(b)
        d = self.form(plain, affine(a, True) - affine(b, True))
        truth = _order(name, d.lo < 0, d.lo <= 0, d.hi > 0, d.hi >= 0, np.asarray(False))
        if name not in ("eq", "ne"):
            return truth
        if all(abs(c) == 1 and isinstance(atom, Sym | Load) for atom, c in plain.terms):
            return truth  # single values, which bounds tell apart, or no residue at all
        apart = self._congruence(plain).excludes(0)
        if name == "eq":
            return Truth(truth.may_be_true & ~apart, truth.may_be_false | apart)
        return Truth(truth.may_be_true | apart, truth.may_be_false & ~apart)


def _order(name: str, lt: iv.Bools, le: iv.Bools, gt: iv.Bools, ge: iv.Bools, nan: iv.Bools) -> Truth:
    """The comparison from what the two sides may be to each other; every comparison with NaN but `ne` is false."""
    match name:
        case "lt":
            return Truth(lt, ge | nan)
        case "le":
            return Truth(le, gt | nan)
        case "gt":
            return Truth(gt, le | nan)
        case "ge":
            return Truth(ge, lt | nan)
        case "eq":
            return Truth(le & ge, lt | gt | nan)
        case _:
            return Truth(lt | gt | nan, le & ge)
