"""Loop families in words: how many passes over the keys, and what is carried along."""

from __future__ import annotations

from attngen.codegen.plan import BranchPlan, Plan
from attngen.ir.nodes import Affine, Concat
from attngen.ir.normalizer import Chained, Ordered, Streaming, Threshold


def loop(plan: Plan) -> str:
    """The loop family of a plan, a phrase for each branch."""
    families = [family(branch) for branch in plan.branches]
    if len(families) == 1:
        return families[0]
    joined = {Affine: "added", Concat: "side by side"}.get(type(plan.spec.combine), "projected and added")
    same = families[0] if len(set(families)) == 1 else "; ".join(families)
    return f"{len(families)} branches, {joined}: {same}"


def family(branch: BranchPlan) -> str:
    """The loop family of a branch."""
    match branch.normalizer:
        case Streaming(anchor=None):
            return "one pass over the keys, sums without an anchor"
        case Streaming():
            return "one pass over the keys, online: running anchor, sums rescaled when it moves"
        case Chained(passes=passes):
            return f"{len(passes)} passes over the keys, each on the weights of the one before"
        case Threshold():
            return "threshold search over the scores of a row, then one pass"
        case Ordered(direction=direction):
            return f"one pass over the keys in order ({direction}), running product" + (
                " until nothing is left" if branch.scan is not None and branch.scan.fades else ""
            )


def laws(branch: BranchPlan) -> str:
    """What was derived from the declaration of the normalizer."""
    normalizer = branch.normalizer
    facts = []
    if isinstance(normalizer, Streaming | Chained) and branch.last.anchor is not None:
        facts.append(f"shift law proven, k = {branch.decay_rate:g}")
        facts.append("in powers of two" if branch.exponential else "no exponential fast path")
    if isinstance(normalizer, Streaming) and normalizer.anchor is None:
        facts.append("no anchor, so no shift law is needed")
    if branch.needs_visible:
        facts.append("counts n_visible first")
    if branch.needs_count:
        facts.append("counts the keys of a row")
    if branch.needs_vsum:
        facts.append("sums the values of a row")
    return f"{normalizer.name} ({', '.join(facts)})" if facts else normalizer.name
