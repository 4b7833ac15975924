"""The laws behind a declared normalizer: what has to hold for the derived kernels and gradients to be right.

    shift       phi(s, m + t) = exp(-k t) phi(s, m), and psi with the same k: a running anchor can move
    mass        psi is never negative where the result divides by the mass
    invariance  finalize and lse do not depend on where the anchor lies: gradients take m as a constant
    keep        what an ordered normalizer keeps is a share: log_keep is never positive

Each is proven by structure, or by sympy within a time limit, or it is refused; with numbers, where some show that it is
false. That numbers agree is never taken for a proof.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from types import ModuleType
from typing import cast

from attngen.codegen.derive.deadline import Budget
from attngen.codegen.derive.refute import (
    ABOVE,
    BELOW,
    invariance_counterexample,
    massless_row,
    shift_counterexample,
    wrong_sign,
)
from attngen.codegen.derive.shift import degree, is_invariant, same_rate
from attngen.codegen.derive.smooth import is_smooth
from attngen.errors import SpecError
from attngen.ir.expr import Expr, Op, op, rebuild, substitute, sym
from attngen.ir.normalizer import Chained, Ordered, Streaming
from attngen.ir.signs import Signs, Spans, never_negative, span_of
from attngen.ir.span import Span, above, at_least

LIMIT = 5.0
"""Seconds of algebra for a declaration."""

SHIFT = "phi and psi do not follow one shift law f(s, m + t) = exp(-k t) f(s, m), which a running anchor needs"
MASS = "the mass is a sum of non-negative terms"
NOT_PROVEN = "that could not be proved, nor could it be refuted"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The rate of a lawful declaration; or what is wrong, and which part of the declaration is."""

    rate: float = 0.0
    wrong: str = ""
    part: str = ""


def shift_rate(node: Streaming) -> float:
    """The k of the shift law. Raises `SpecError` where the declaration breaks a law, or cannot be shown to keep it."""
    verdict = _judged(node)
    if verdict.wrong:
        # Equal declarations share a verdict; the line that is shown is the one of this declaration.
        source = getattr(getattr(node, verdict.part, None), "source", None)
        raise SpecError(f"normalizer {node.name!r}: {verdict.wrong}", source=source)
    return verdict.rate


def check_chain(node: Chained) -> None:
    """Every pass is lawful, and the mass of each pass before the last, which divides its weights, is one."""
    for i, each in enumerate(node.passes):
        shift_rate(each)
        if i < len(node.passes) - 1 and each.psi is not None:
            wrong = _negative(each, each.psi, Budget(LIMIT))
            if wrong:
                raise SpecError(
                    f"normalizer {node.name!r}, pass {i}: {wrong}, but the next pass gets phi / mass, and {MASS}; "
                    "use relu, abs, exp, softplus or a square",
                    source=each.psi.source,
                )


def check_keep(node: Ordered) -> None:
    """What an ordered normalizer keeps is a share of what there was."""
    kept = op("neg", node.log_keep)
    if never_negative(kept):
        return
    found = _counterexample(lambda: wrong_sign("log_keep", node.log_keep, 1))
    if found is None and _proven(Budget(LIMIT), lambda algebra: algebra.prove_never_negative(kept, Span())):
        return
    detail = NOT_PROVEN if found is None else f"here {found}"
    raise SpecError(
        f"normalizer {node.name!r}: log_keep is the logarithm of the share that a key leaves to those after it, so it "
        f"must never be positive; {detail}; write -softplus(s), -relu(s), or minimum(..., 0)",
        source=node.log_keep.source,
    )


def scores_of(node: Streaming) -> Span:
    """The scores for which the declaration holds."""
    return at_least(0) if node.scores == "nonnegative" else Span()


def mass_of(node: Streaming) -> Span:
    """The mass of a row that has some."""
    return above(0) if divides(node) else Span()


def divides(node: Streaming) -> str:
    """What finalize or lse does that a mass of any sign does not bear, in words, or ""."""
    if node.psi is None:
        return ""
    if not is_smooth(node.finalize, "mass", {}):
        return "finalize divides by the mass"
    if node.lse is not None and not is_smooth(node.lse, "mass", {}):
        return "lse takes the logarithm of the mass"
    return ""


@lru_cache(maxsize=1024)
def _judged(node: Streaming) -> Verdict:
    budget, rate = Budget(LIMIT), 0.0
    if node.anchor is not None:
        law = _shift(node, budget)
        if isinstance(law, Verdict):
            return law
        rate = law
    reason = divides(node)
    if reason and node.psi is not None:
        wrong = _negative(node, node.psi, budget)
        if wrong:
            return Verdict(
                wrong=f"{wrong}, but {reason}, and the law is: {MASS}; use relu, abs, exp, softplus or a square, or "
                'declare scores="nonnegative" where no score is below zero',
                part="psi",
            )
        if node.sink is None and not span_of(node.psi, {sym("s"): scores_of(node)}).positive:
            empty = _counterexample(lambda: massless_row(node))
            if empty is not None:
                return Verdict(
                    wrong=f"a row may see keys and have no mass ({empty}); leave finalize away, for acc / mass or 0, "
                    "or divide by torch.where(mass > 0, mass, 1)",
                    part="finalize",
                )
    if node.anchor is not None:
        for part in ("finalize", "lse"):
            wrong = _moved(node, part, rate, budget)
            if wrong:
                return Verdict(wrong=wrong, part=part)
    return Verdict(rate)


def _shift(node: Streaming, budget: Budget) -> float | Verdict:
    """The common rate of phi and psi."""
    assert node.anchor is not None
    rates: dict[str, float] = {}
    for name, expr in (("phi", node.phi), ("psi", node.psi)):
        if expr is None:
            continue
        k = degree(expr)
        if k is None:
            law = _rate(node, name, expr, budget)
            if isinstance(law, Verdict):
                return law
            k = law
        if k is not None:
            rates[name] = k
    low, high = min(rates.values(), default=0.0), max(rates.values(), default=0.0)
    if not same_rate(low, high):
        return _unlawful(f"k is {rates['phi']:g} for phi and {rates['psi']:g} for psi", "psi")
    if low < 0:
        grown = "what was summed before would grow with the anchor, and what is summed first has none"
        return _unlawful(f"k is {low:g}, but it must not be negative: {grown}", "phi")
    return rates.get("phi", low)


def _rate(node: Streaming, name: str, expr: Expr, budget: Budget) -> float | Verdict | None:
    """The rate of phi or psi where structure shows none; None: any."""
    anchor, offset, scores = node.anchor, node.offset, scores_of(node)
    assert anchor is not None

    def refuted(heights: tuple[float, ...]) -> Verdict | None:
        found = _counterexample(lambda: shift_counterexample(name, expr, anchor, offset, scores.nonnegative, heights))
        return None if found is None else _unlawful(found, name)

    wrong = refuted(ABOVE)
    if wrong is not None:
        return wrong
    algebra, detail = _algebra(), f"for {name}, {NOT_PROVEN}"
    # For every m; or else for those that are met, which lie above anchor(s), and near them. Without an offset the
    # largest key of a row is at the border, and the slope there is made of both sides.
    for met in (None, anchor) if offset else (None,):
        try:
            return cast("float | None", budget.spend(partial(algebra.rate, expr, scores, met, offset / 2)))
        except TimeoutError:
            detail = f"{name} was given {LIMIT:g} s, and {NOT_PROVEN}"
            break
        except Exception:  # a failure of the algebra, whatever it is, is no proof
            continue
    return refuted(BELOW) or _unlawful(detail, name)


def _unlawful(detail: str, part: str) -> Verdict:
    advice = "" if "attngen.static" in detail else "; write them with exp(... - m), or declare no anchor"
    return Verdict(wrong=f"{SHIFT}: {detail}{advice}", part=part)


def _negative(node: Streaming, psi: Expr, budget: Budget) -> str:
    """Why psi is not known to be >= 0, in words, or ""."""
    scores = scores_of(node)
    given: Spans = {sym("s"): scores}
    if never_negative(psi, given):
        return ""
    nonnegative = node.scores == "nonnegative"
    found = _counterexample(lambda: wrong_sign("psi", psi, -1, node.anchor, node.offset, nonnegative))
    if found is not None:
        return f"psi can be negative ({found})"
    # By the shift law its sign is the same at every anchor.
    top = None if node.anchor is None else op("add", node.anchor, node.offset)
    alone = psi if top is None else substitute(psi, {"m": top})
    if _proven(budget, lambda algebra: algebra.prove_never_negative(alone, scores)):
        return ""
    return f"psi must not be negative, and {NOT_PROVEN}"


def _moved(node: Streaming, part: str, rate: float, budget: Budget) -> str:
    """Why finalize or lse is not known to be invariant, in words, or ""."""
    declared: Expr | None = getattr(node, part)
    if declared is None:
        return ""
    expr = _pruned(declared, {sym("mass"): mass_of(node)})
    if is_invariant(expr, rate):
        return ""
    found = _counterexample(lambda: invariance_counterexample(expr, rate))
    if found is None and _proven(budget, lambda algebra: algebra.prove_invariant(expr, rate, mass_of(node))):
        return ""
    moved = "exp(-k t) acc, exp(-k t) mass, m + t" if part == "finalize" else "m + t, exp(-k t) mass"
    still = "acc, mass, m" if part == "finalize" else "m, mass"
    if part == "lse":
        advice = f"write m + torch.log(mass){f' / {rate:g}' if rate != 1 else ''}"
    elif node.psi is None:
        advice = "declare a psi and divide by the mass, or declare no anchor"
    else:
        advice = "divide by the mass alone, and give a constant beside it the factor exp(-k m), as in mass + eps * "
        advice += "torch.exp(-m); the default finalize is acc / mass, with 0 for a row without mass"
    return (
        f"{part} depends on where the anchor lies. Gradients take m as a constant, by the law of invariance "
        f"{part}({moved}) = {part}({still}), here with k = {rate:g}: {found or NOT_PROVEN}; {advice}"
    )


def _pruned(expr: Expr, given: Spans) -> Expr:
    """Without the sides of conditions that cannot be: a row that has no mass is no concern of the law."""
    signs = Signs(given)

    def chosen(node: Expr) -> Expr | None:
        match node:
            case Op(name="where", args=(condition, yes, no)):
                decided = signs.decided(condition)
                return None if decided is None else yes if decided else no
        return None

    return rebuild(expr, chosen)


def _proven(budget: Budget, proof: Callable[[ModuleType], None]) -> bool:
    algebra = _algebra()
    try:
        budget.spend(lambda: proof(algebra))
    except Exception:  # a failure of the algebra, whatever it is, is no proof
        return False
    return True


def _counterexample(search: Callable[[], str | None]) -> str | None:
    """What the search finds. Where numbers cannot be had, there is no counterexample."""
    try:
        return search()
    except (ArithmeticError, RuntimeError, SpecError):
        return None


def _algebra() -> ModuleType:
    """Importing sympy takes a second, and is no algebra: it comes before the time is taken."""
    from attngen.codegen.derive import algebra

    return algebra
