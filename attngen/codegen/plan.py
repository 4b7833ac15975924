"""The plan: HOW a spec is computed, derived from the spec and the problem alone. Targets read it and add nothing to it.

A plan fixes, for each branch, the running state, how it is rescaled, which keys a query tile visits and which score is
tracked; tile sizes and the like are left to the config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from attngen.codegen.analysis import Ranges, closed_form, flattened_mask, visible_count
from attngen.codegen.boxes import Boxes
from attngen.codegen.derive.empty_rows import with_empty_rows
from attngen.codegen.derive.fold import fold_int
from attngen.codegen.derive.gradient import gradient
from attngen.codegen.derive.laws import shift_rate
from attngen.codegen.derive.passes import (
    PassPlan,
    ScanPlan,
    Sink,
    expressions,
    last_declared,
    mapped,
    normal_form,
    sink_of,
)
from attngen.codegen.derive.positive import is_positive
from attngen.codegen.problem import Problem
from attngen.errors import SpecError
from attngen.ir.expr import Const, Expr, Sym, const, loads, op, substitute, sym, symbols
from attngen.ir.nodes import (
    Affine,
    Branch,
    Combine,
    Concat,
    Dot,
    Grid,
    KeySet,
    Paged,
    Segments,
    Sequence,
    Space,
    Spec,
    View,
)
from attngen.ir.normalizer import Normalizer, Streaming


@dataclass(frozen=True, slots=True)
class DotPlan:
    """One raw product q . k; `width` is the length of the vectors, `q_start` and `k_start` where they begin."""

    q: View
    k: View
    q_start: int
    k_start: int
    width: int


@dataclass(frozen=True, slots=True)
class KeySetPlan:
    """One pass over one set of keys. The score of a key is alpha * core, with alpha > 0 and uniform over the row;
    alpha is 1 unless the branch is exponential.

    `core` is an expression over dot[i] (raw products) and everything a score may read. `space` is that of the keys: of
    the keys of a grid the grid; others lie in a line, and their mask knows queries by flat positions. `ranges` are the
    closed-form key ranges of a query tile; None: they come as a block table, whose entries lie `within` others, if
    these are known.
    """

    dots: tuple[DotPlan, ...]
    v: View
    v_start: int
    mask: Expr
    alpha: Expr
    core: Expr
    space: Space
    ranges: Ranges | None
    within: Ranges | None = None

    @property
    def masked(self) -> bool:
        """Whether any key can be absent."""
        return not (isinstance(self.mask, Const) and self.mask.value is True)


@dataclass(frozen=True, slots=True)
class BranchPlan:
    """One branch: the normalizer, the width of its values, the key sets and the optional weight.

    Every normalizer comes down to some earlier passes over the keys, perhaps a scan, and a Streaming declaration `last`
    whose expressions read m[k], r[k] and `before` besides its own symbols. `saves` names what a backward needs of each
    row besides its numbers: acc, vsum (of the width of the values).

    `decay_rate` is the k of the shift law: sums taken at anchor m are worth exp(k (m - m')) of sums at anchor m'.
    `exponential`: phi and psi are exp(s - m), so that the target may work in powers of two. `needs_visible`: the number
    of visible keys is read, and has no closed form. `drops_massless`: a row whose mass is 0 gives 0, and a log-sum-exp
    of -inf, without being looked at.
    """

    normalizer: Normalizer
    width: int
    keysets: tuple[KeySetPlan, ...]
    weight: Expr | None
    decay_rate: float
    exponential: bool
    needs_count: bool
    needs_vsum: bool
    last: Streaming
    drops_massless: bool
    passes: tuple[PassPlan, ...] = ()
    scan: ScanPlan | None = None
    sink: Sink | None = None
    saves: frozenset[str] = frozenset()
    needs_visible: bool = False

    def row_expressions(self) -> tuple[Expr, ...]:
        """What the normalizer computes from a score and the numbers of a row."""
        return tuple(e for part in (*self.passes, self.scan, self.sink, self.last) for e in expressions(part))


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole computation: branches one after the other, placed side by side or added with row coefficients.

    `written` is the plan of the spec as the user has it, where this one is of a spec that it was lowered to. `order`:
    the tokens of a grid are counted in the order of boxes, else row by row.
    """

    spec: Spec
    problem: Problem
    branches: tuple[BranchPlan, ...]
    width: int
    written: Plan | None = None
    order: Boxes | None = None

    def table_masks(self) -> tuple[Expr, ...]:
        """The masks of key sets whose visible keys come as block tables."""
        return tuple(k.mask for branch in self.branches for k in branch.keysets if k.ranges is None)

    def in_boxes(self, sides: tuple[int, ...]) -> Plan:
        """The plan with the tokens of its grid in the order of boxes; itself for no sides."""
        space = self.spec.space
        return replace(self, order=Boxes(space.dims, sides)) if sides and isinstance(space, Grid) else self

    @property
    def packed(self) -> bool:
        """Whether packed sequences were lowered to this one sequence."""
        return self.written is not None and isinstance(self.written.spec.space, Segments)


def make_plan(spec: Spec, problem: Problem) -> Plan:
    """Derives the plan of a verified spec; raises `SpecError` where widths of views do not fit together."""
    branches = tuple(_branch(branch, i, spec, problem) for i, branch in enumerate(spec.branches))
    widths = [branch.width for branch in branches]
    if len(set(widths)) > 1 and not isinstance(spec.combine, Concat):
        raise SpecError(f"the branches have widths {widths}; they are added, so they must be equal")
    width = sum(widths) if isinstance(spec.combine, Concat) else widths[0]
    return Plan(spec, problem, branches, width)


def _branch(branch: Branch, index: int, spec: Spec, problem: Problem) -> BranchPlan:
    passes, scan, last = normal_form(branch.normalizer, shift_rate)
    last, drops_massless = with_empty_rows(last, spec.space)
    exponential = not passes and _is_exponential(last)
    # In pages, n_k is the number of keys that are there: to masks they are a sequence.
    space = Sequence() if isinstance(spec.space, Paged) else spec.space
    visible = _visible(branch, space)
    # The running maximum is in units of the core score, so one scale has to hold for all keys of a row.
    keysets = _keysets(branch, space, problem, exponential, visible)
    if len({keyset.alpha for keyset in keysets}) > 1:
        keysets = _keysets(branch, space, problem, False, visible)
    widths = {stop - start for start, stop in (value_extent(k.v, problem) for k in branch.all_keysets())}
    if len(widths) != 1:
        raise SpecError(f"the key sets of a branch have values of different widths: {sorted(widths)}")
    declared = last_declared(branch.normalizer)
    sink = None if declared is None else sink_of(declared)
    used = symbols(last.finalize, last.lse)
    found = BranchPlan(
        normalizer=branch.normalizer,
        width=widths.pop(),
        keysets=keysets,
        weight=None if branch.weight is None else visible(branch.weight),
        decay_rate=0.0 if declared is None else shift_rate(declared),
        exponential=exponential,
        # With a sink, a row without keys has mass too: only the count tells it from the others.
        needs_count="count" in used or sink is not None,
        needs_vsum="vsum" in used,
        last=mapped(last, visible),
        drops_massless=drops_massless,
        passes=tuple(mapped(each, visible) for each in passes),
        scan=None if scan is None else mapped(scan, visible),
        sink=None if sink is None else mapped(sink, visible),
        saves=_saves(last, spec.combine, index),
    )
    pairs = [e for keyset in keysets for e in (keyset.core, keyset.alpha)]
    counted = "n_visible" in symbols(*found.row_expressions(), *pairs, found.weight)
    return replace(found, needs_visible=counted)


def _visible(branch: Branch, space: Space) -> Callable[[Expr], Expr]:
    """Puts the closed form of the number of visible keys in place of n_visible, where there is one."""

    def written(expr: Expr) -> Expr:
        if branch.keysets or "n_visible" not in symbols(expr):
            return expr
        count = visible_count(branch.mask, space)
        return expr if count is None else substitute(expr, {"n_visible": count})

    return written


def _saves(last: Streaming, combine: Combine, index: int) -> frozenset[str]:
    """What the cotangents of acc, vsum and the mass, and of the tensors that finalize reads, are made of."""
    result = last.finalize
    if isinstance(combine, Affine) and combine.coefficients[index] != const(1.0):
        result = op("mul", result, combine.coefficients[index])
    leaves = [sym("acc"), sym("vsum"), sym("mass"), *(each for each in loads(result) if each.type == "float")]
    return symbols(*gradient([(result, sym("dout"))], leaves)) & {"acc", "vsum"}


def _is_exponential(last: Streaming) -> bool:
    """Whether phi and psi are exp(s - m) with m the running maximum of s."""
    return (last.phi, last.psi, last.anchor) == (EXP, EXP, sym("s"))


EXP: Expr = op("exp", op("sub", sym("s"), sym("m")))


def _keysets(
    branch: Branch, space: Space, problem: Problem, split: bool, visible: Callable[[Expr], Expr]
) -> tuple[KeySetPlan, ...]:
    main, *others = branch.all_keysets()
    line = Sequence() if isinstance(space, Grid) else space
    flat = (replace(other, mask=flattened_mask(other.mask, space)) for other in others)
    return tuple(
        _keyset(keyset, of_keys, problem, split, visible)
        for keyset, of_keys in ((main, space), *((other, line) for other in flat))
    )


def _keyset(keyset: KeySet, space: Space, problem: Problem, split: bool, visible: Callable[[Expr], Expr]) -> KeySetPlan:
    dots = tuple(_dot(dot, problem) for dot in keyset.dots)
    scales = [substitute(dot.scale, {"d": const(plan.width)}) for dot, plan in zip(keyset.dots, dots, strict=True)]
    alpha: Expr = const(1.0)
    core: Expr
    if split and len(dots) == 1 and isinstance(keyset.score, Sym) and keyset.join is None and is_positive(scales[0]):
        alpha, core = scales[0], sym("dot[0]")
    else:
        scaled: dict[str, Expr] = {f"dot[{i}]": op("mul", sym(f"dot[{i}]"), scale) for i, scale in enumerate(scales)}
        core = substitute(keyset.score, {"score": substitute(keyset.joined(), scaled)})
    return KeySetPlan(
        dots=dots,
        v=keyset.v,
        v_start=value_extent(keyset.v, problem)[0],
        mask=keyset.mask,
        alpha=visible(alpha),
        core=visible(core),
        space=space,
        ranges=closed_form(keyset.mask, space),
    )


def _dot(dot: Dot, problem: Problem) -> DotPlan:
    (q_start, q_stop), (k_start, k_stop) = value_extent(dot.q, problem), value_extent(dot.k, problem)
    if q_stop - q_start != k_stop - k_start:
        raise SpecError(
            f"{dot.q.tensor} and {dot.k.tensor} have different head dimensions in one dot: "
            f"{q_stop - q_start} and {k_stop - k_start}"
        )
    return DotPlan(dot.q, dot.k, q_start, k_start, q_stop - q_start)


def value_extent(view: View, problem: Problem) -> tuple[int, int]:
    """First and past-the-last element of the head dimension that a view reads."""
    width = problem.operand(view.tensor).width
    start = 0 if view.start is None else fold_int(view.start, {"d": width})
    stop = width if view.stop is None else fold_int(view.stop, {"d": width})
    if not 0 <= start <= stop <= width:
        raise SpecError(f"the view of {view.tensor} reads {start}:{stop} of a head dimension of {width}")
    return start, stop
