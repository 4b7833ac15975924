"""The plan: HOW a spec is computed, derived from the spec and the problem alone. Targets read it and add nothing to it.

A plan fixes, for each branch, the running state, how it is rescaled, which keys a query tile visits and which score is
tracked; tile sizes and the like are left to the config.
"""

from __future__ import annotations

from dataclasses import dataclass

from attngen.codegen.analysis import Ranges, closed_form, visible_count
from attngen.codegen.derive.fold import fold_int
from attngen.codegen.derive.positive import is_positive
from attngen.codegen.derive.shift import degree
from attngen.codegen.problem import Problem
from attngen.errors import SpecError
from attngen.ir.expr import Const, Expr, Sym, const, op, substitute, sym, symbols
from attngen.ir.nodes import Branch, Concat, Dot, KeySet, Space, Spec, View
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

    `core` is an expression over dot[i] (raw products) and everything a score may read. `ranges` are the closed-form key
    ranges of a query tile; None: they come as a block table.
    """

    dots: tuple[DotPlan, ...]
    v: View
    v_start: int
    mask: Expr
    alpha: Expr
    core: Expr
    ranges: Ranges | None

    @property
    def masked(self) -> bool:
        """Whether any key can be absent."""
        return not (isinstance(self.mask, Const) and self.mask.value is True)


@dataclass(frozen=True, slots=True)
class BranchPlan:
    """One branch: the normalizer, the width of its values, the key sets and the optional weight.

    `decay_rate` is the k of the shift law: sums taken at anchor m are worth exp(k (m - m')) of sums at anchor m'.
    `exponential`: phi and psi are exp(s - m), so that the target may work in powers of two.
    """

    normalizer: Normalizer
    width: int
    keysets: tuple[KeySetPlan, ...]
    weight: Expr | None
    decay_rate: float
    exponential: bool
    needs_count: bool
    needs_vsum: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole computation: branches one after the other, placed side by side or added with row coefficients."""

    spec: Spec
    problem: Problem
    branches: tuple[BranchPlan, ...]
    width: int


def make_plan(spec: Spec, problem: Problem) -> Plan:
    """Derives the plan of a verified spec; raises `SpecError` where widths of views do not fit together."""
    branches = tuple(_branch(branch, spec.space, problem) for branch in spec.branches)
    widths = [branch.width for branch in branches]
    if len(set(widths)) > 1 and not isinstance(spec.combine, Concat):
        raise SpecError(f"the branches have widths {widths}; they are added, so they must be equal")
    width = sum(widths) if isinstance(spec.combine, Concat) else widths[0]
    return Plan(spec, problem, branches, width)


def _branch(branch: Branch, space: Space, problem: Problem) -> BranchPlan:
    normalizer = branch.normalizer
    exponential = _is_exponential(normalizer)
    alone = not branch.keysets
    # The running maximum is in units of the core score, so one scale has to hold for all keys of a row.
    keysets = tuple(_keyset(keyset, space, problem, exponential, alone) for keyset in branch.all_keysets())
    if len({keyset.alpha for keyset in keysets}) > 1:
        keysets = tuple(_keyset(keyset, space, problem, False, alone) for keyset in branch.all_keysets())
    widths = {stop - start for start, stop in (value_extent(k.v, problem) for k in branch.all_keysets())}
    if len(widths) != 1:
        raise SpecError(f"the key sets of a branch have values of different widths: {sorted(widths)}")
    rate = shift_rate(normalizer) if isinstance(normalizer, Streaming) else 0.0
    used = symbols(normalizer.finalize) if isinstance(normalizer, Streaming) else frozenset()
    return BranchPlan(
        normalizer=normalizer,
        width=widths.pop(),
        keysets=keysets,
        weight=branch.weight,
        decay_rate=rate,
        exponential=exponential,
        needs_count="count" in used,
        needs_vsum="vsum" in used,
    )


def _is_exponential(normalizer: Normalizer) -> bool:
    """Whether phi and psi are exp(s - m) with m the running maximum of s."""
    return isinstance(normalizer, Streaming) and (normalizer.phi, normalizer.psi, normalizer.anchor) == (
        EXP,
        EXP,
        sym("s"),
    )


EXP: Expr = op("exp", op("sub", sym("s"), sym("m")))


def shift_rate(normalizer: Streaming) -> float:
    """The common k of the shift law of phi and psi; raises `SpecError` where the law does not hold."""
    if normalizer.anchor is None:
        return 0.0
    rates = {degree(e) for e in (normalizer.phi, normalizer.psi) if e is not None}
    if len(rates) != 1 or None in rates:
        raise SpecError(
            f"normalizer {normalizer.name!r}: phi and psi do not follow one shift law f(s, m + t) = exp(-k t) f(s, m), "
            "which a running anchor needs; write them with exp(... - m), or declare no anchor"
        )
    return float(rates.pop() or 0.0)


def _keyset(keyset: KeySet, space: Space, problem: Problem, split: bool, alone: bool) -> KeySetPlan:
    dots = tuple(_dot(dot, problem) for dot in keyset.dots)
    scales = [substitute(dot.scale, {"d": const(plan.width)}) for dot, plan in zip(keyset.dots, dots, strict=True)]
    alpha: Expr = const(1.0)
    core: Expr
    if split and len(dots) == 1 and isinstance(keyset.score, Sym) and keyset.join is None and is_positive(scales[0]):
        alpha, core = scales[0], sym("dot[0]")
    else:
        scaled: dict[str, Expr] = {f"dot[{i}]": op("mul", sym(f"dot[{i}]"), scale) for i, scale in enumerate(scales)}
        core = substitute(keyset.score, {"score": substitute(keyset.joined(), scaled)})
    count = visible_count(keyset.mask, space) if alone and "n_visible" in symbols(core, alpha) else None
    if count is not None:
        core, alpha = (substitute(e, {"n_visible": count}) for e in (core, alpha))
    return KeySetPlan(
        dots=dots,
        v=keyset.v,
        v_start=value_extent(keyset.v, problem)[0],
        mask=keyset.mask,
        alpha=alpha,
        core=core,
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
