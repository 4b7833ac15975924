"""`and`, `or`, `not`, `if` on expressions: the function runs once for every path, and the results are merged.

Each time Python asks whether an expression is true, the oracle answers: first as it answered in the run before, then
True. When a run ends, the last True becomes False, until every path has been taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from attngen.errors import Source, TraceError
from attngen.ir.expr import Const, Expr, Load, Op, const, op, postorder, symbols

MOST_PATHS = 64
MOST_QUESTIONS = 63
OPPOSITE = {"lt": "ge", "ge": "lt", "le": "gt", "gt": "le", "eq": "ne", "ne": "eq"}
MIRROR = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}


@dataclass(frozen=True, slots=True)
class Decision:
    """One answer: which condition was taken to be true or false, and where it was asked."""

    condition: Expr
    taken: bool
    source: Source | None


Path = tuple[Decision, ...]


class Oracle:
    """Answers `bool(expression)` so that all paths are taken, one a run."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.plan: list[bool] = []
        self.path: list[Decision] = []
        self.known: dict[Expr, bool] = {}
        self.runs = 0

    def start(self) -> None:
        """Begins a run."""
        self.path = []
        self.known = {}
        self.runs += 1

    def next(self) -> bool:
        """Ends a run; True if there is another path."""
        self.plan = [decision.taken for decision in self.path]
        while self.plan and not self.plan[-1]:
            self.plan.pop()
        if not self.plan:
            return False
        self.plan[-1] = False
        if self.runs >= MOST_PATHS:
            raise TraceError(
                f"this {self.label} has more than {MOST_PATHS} paths through its conditions; write some of them as "
                "expressions: `&`, `|`, `~` for and, or, not; torch.where(condition, a, b) for if/else",
                source=Counter(d.source for d in self.path).most_common(1)[0][0],
            )
        return True

    def ask(self, condition: Expr, source: Source | None) -> bool:
        """Whether the condition holds on the path of this run."""
        if isinstance(condition, Const):
            return bool(condition.value)
        if isinstance(condition, Op) and condition.name == "not":
            return not self.ask(condition.args[0], source)
        if condition in self.known:
            return self.known[condition]
        place = len(self.path)
        if place >= MOST_QUESTIONS:
            self._give_up(condition, source)
        taken = self.plan[place] if place < len(self.plan) else True
        self.path.append(Decision(condition, taken, source))
        self._learn(condition, taken)
        return taken

    def _learn(self, condition: Expr, taken: bool) -> None:
        self.known[condition] = taken
        match condition:
            case Op(name=name, args=(left, right)) if name in OPPOSITE:
                self.known[op(MIRROR[name], right, left)] = taken
                # With NaN neither a < b nor a >= b holds.
                if name in ("eq", "ne") or "float" not in (left.type, right.type):
                    self.known[op(OPPOSITE[name], left, right)] = not taken
                    self.known[op(MIRROR[OPPOSITE[name]], right, left)] = not taken

    def _give_up(self, condition: Expr, source: Source | None) -> None:
        asked = Counter(decision.source for decision in self.path)[source]
        if asked < MOST_QUESTIONS // 2:
            raise TraceError(
                f"this {self.label} asks more than {MOST_QUESTIONS} conditions on one path; write them as expressions: "
                "`&`, `|`, `~` for and, or, not; torch.where(condition, a, b) for if/else",
                source=source,
            )
        captured = [node.tensor for node in postorder(condition) if isinstance(node, Load) and not node.indices]
        if symbols(condition) or not captured:
            what = f"on {', '.join(sorted(symbols(condition)))}" if symbols(condition) else "on the inputs"
            advice = "loop over a range of constant length and select with torch.where"
        else:
            what = f"on the captured {captured[0]!r}, which may change from call to call"
            advice = f"make it a constant with attngen.static({captured[0]})"
        raise TraceError(f"a loop whose end depends {what} cannot be unrolled; {advice}", source=source)


def merge(results: Sequence[tuple[Path, Expr]]) -> Expr:
    """One expression out of the results of all paths, in the order in which the oracle took them."""
    return _tree([(path, _resolved(path, result)) for path, result in results], 0)


def _resolved(path: Path, result: Expr) -> Expr:
    """`a and b` returns `a` where a is false: there it is the constant."""
    for decision in path:
        if decision.condition == result and result.type == "bool":
            return const(decision.taken, result.source)
    return result


def _tree(results: Sequence[tuple[Path, Expr]], depth: int) -> Expr:
    path, first = results[0]
    if len(results) == 1:
        return first
    if any(len(other) <= depth or other[depth].condition != path[depth].condition for other, _ in results):
        raise TraceError(
            "this function takes other steps when it is run again; a mask or score must not depend on what changes "
            "from run to run (iterators, counters, random numbers)",
            source=path[-1].source,
        )
    yes = [result for result in results if result[0][depth].taken]
    no = [result for result in results if not result[0][depth].taken]
    return select(path[depth].condition, _tree(yes, depth + 1), _tree(no, depth + 1), path[depth].source)


def select(condition: Expr, yes: Expr, no: Expr, source: Source | None = None) -> Expr:
    """`yes if condition else no`; with a constant branch: and, or, not."""
    if yes == no:
        return yes
    if (yes.type, no.type) != ("bool", "bool"):
        return op("where", condition, yes, no, source=source)
    match yes, no:
        case Const(value=True), Const(value=False):
            return condition
        case Const(value=False), Const(value=True):
            return negate(condition, source)
        case _, Const(value=False):
            return op("and", condition, yes, source=source)
        case Const(value=True), _:
            return op("or", condition, no, source=source)
        case Const(value=False), _:
            return op("and", negate(condition, source), no, source=source)
        # `a and b or c` and `(a or b) and c`, whose last part is asked on two paths.
        case Op(name="or", args=(part, rest)), _ if rest == no:
            return op("or", op("and", condition, part, source=source), no, source=source)
        case _, Op(name="and", args=(part, rest)) if rest == yes:
            return op("and", op("or", condition, part, source=source), yes, source=source)
        case _, Const(value=True):
            return op("or", negate(condition, source), yes, source=source)
    return op("where", condition, yes, no, source=source)


def negate(condition: Expr, source: Source | None = None) -> Expr:
    """Not the condition; not not x is x."""
    if isinstance(condition, Op) and condition.name == "not":
        return condition.args[0]
    return op("not", condition, source=source)
