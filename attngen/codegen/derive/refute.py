"""Counterexamples: numbers at which a law of a declaration does not hold, by a clear margin. None proves nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from attngen.codegen.derive.points import Setting, literals, pinned, settings, shown, values
from attngen.ir.expr import Expr, sym, symbols
from attngen.ir.normalizer import Streaming

SCORES = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, -3.0, 5.0, -5.0)
STEPS = (1.0, 0.5, 2.0)
ABOVE, BELOW = (0.0, 1.0, 2.5, 6.0, 14.0), (-1.0, -2.5)
"""How far the anchor lies above that of the score: where kernels come, and where only the law itself does."""
FARTHEST = 18.0
SUMS = (1.0, -1.0, 0.5, 3.0)
MASSES = (2.0, 0.5, 0.01, 10.0)
MARGIN = 1e-3
NOTICEABLE = 1e-9
SIGNIFICANT = 1e-6


@dataclass(frozen=True, slots=True)
class Row:
    """The variables at one point, and what a law says there: left and right."""

    at: dict[str, float]
    left: float
    right: float

    def __str__(self) -> str:
        return ", ".join(f"{name} = {shown(value)}" for name, value in self.at.items())


def shift_counterexample(
    name: str, expr: Expr, anchor: Expr, offset: float, nonnegative: bool, heights: Sequence[float] = ABOVE
) -> str | None:
    """Why no k gives expr(s, m + t) = exp(-k t) expr(s, m), with numbers; None: not found."""
    rates: list[tuple[float, Setting]] = []
    for setting in settings((expr, anchor), ("s", "m")):
        rows = list(
            _shifted(pinned(expr, setting), pinned(anchor, setting), offset, _scores(expr, nonnegative), heights)
        )
        first: Row | None = None
        k = 0.0
        for row in rows:
            if _clear(max(abs(row.left), abs(row.right))) and _sign(row.left) != _sign(row.right):
                return f"at {row}, {name}(s, m + t) = {shown(row.left)}, but {name}(s, m) = {shown(row.right)}{setting}"
            if not (_clear(row.left) and _clear(row.right)):
                continue
            mine = -math.log(row.left / row.right) / row.at["t"]
            if first is None:
                first, k = row, mine
            elif abs(mine - k) > MARGIN * (1 + abs(k)):
                right = math.exp(-k * row.at["t"]) * row.right
                return (
                    f"{name} at {first} asks for k = {shown(k)}, but then at {row} the left side is "
                    f"{shown(row.left)} and the right side {shown(right)}{setting}"
                )
        if first is not None:
            rates.append((k, setting))
    if rates and any(abs(k - rates[0][0]) > MARGIN * (1 + abs(k)) for k, _ in rates):
        other = next((k, where) for k, where in rates if abs(k - rates[0][0]) > MARGIN * (1 + abs(k)))
        return (
            f"the k of {name} is {shown(rates[0][0])}{rates[0][1]}, but {shown(other[0])}{other[1]}; k is a constant "
            "of the kernel: mark the number with attngen.static, or multiply before the anchor is taken, as in "
            "anchor = a * s with exp(a * s - m)"
        )
    return None


def _shifted(
    expr: Expr, anchor: Expr, offset: float, scores: Sequence[float], heights: Sequence[float]
) -> Iterator[Row]:
    """expr(s, m + t) and expr(s, m), with m so far above the anchor of s."""
    import torch

    grid = torch.tensor(list(product(scores, heights, STEPS)), dtype=torch.float64)
    s, height, t = grid.unbind(-1)
    m = values(anchor, s=s) + offset + height
    left, right = values(expr, s=s, m=m + t), values(expr, s=s, m=m)
    for row in zip(s.tolist(), m.tolist(), t.tolist(), left.tolist(), right.tolist(), strict=True):
        if all(map(math.isfinite, row)):
            yield Row(dict(zip("smt", row[:3], strict=True)), row[3], row[4])


def invariance_counterexample(expr: Expr, k: float) -> str | None:
    """Where an expression in acc, mass and m changes with the anchor; None: not found."""
    import torch

    free = [n for n in ("acc", "mass", "m", "vsum") if n in symbols(expr)]
    constants = [abs(c) for c in literals((expr,)) if c]
    masses = [*MASSES, *constants, *(c / 2 for c in constants)]
    axes = {"acc": SUMS, "mass": masses, "m": (0.0, 1.0, -2.0), "vsum": (0.25,)}
    for setting in settings((expr,), (*axes, "s")):
        grid = torch.tensor(list(product(*(axes[n] for n in free), STEPS)), dtype=torch.float64)
        *columns, t = grid.unbind(-1)
        at = dict(zip(free, columns, strict=True))
        factor = torch.exp(-k * t)
        moved = {n: v + t if n == "m" else v if n == "vsum" else v * factor for n, v in at.items()}
        fixed = pinned(expr, setting)
        left, right = values(fixed, **moved), values(fixed, **at)
        for *point, a, b in zip(*(c.tolist() for c in (*columns, t, left, right)), strict=True):
            if math.isfinite(a) and math.isfinite(b) and abs(a - b) > MARGIN * max(abs(a), abs(b), NOTICEABLE):
                row = Row(dict(zip((*free, "t"), point, strict=True)), a, b)
                return f"at {row} the left side is {shown(a)} and the right side {shown(b)}{setting}"
    return None


def wrong_sign(
    name: str, expr: Expr, sign: int, anchor: Expr | None = None, offset: float = 0.0, nonnegative: bool = False
) -> str | None:
    """Where an expression in s and m is below zero (`sign` -1) or above (1), as "psi = -1 at s = -1"; None: nowhere."""
    import torch

    anchor = sym("s") if anchor is None else anchor
    for setting in settings((expr, anchor), ("s", "m")):
        extra = [i / 8 for i in range(-80, 81)]
        grid = torch.tensor(list(product(_scores(expr, nonnegative, extra), ABOVE[:2])), dtype=torch.float64)
        s, height = grid.unbind(-1)
        m = values(pinned(anchor, setting), s=s) + offset + height
        found = values(pinned(expr, setting), s=s, m=m)
        known = found.isfinite()
        wrong = known & (sign * found > SIGNIFICANT * found[known].abs().max()) if bool(known.any()) else known
        if bool(wrong.any()):
            i = int(wrong.nonzero()[0])
            at = {"s": float(s[i])} | ({"m": float(m[i])} if "m" in symbols(expr) else {})
            return f"{name} = {shown(float(found[i]))} at {Row(at, 0, 0)}{setting}"
    return None


def massless_row(node: Streaming) -> str | None:
    """One of the scores for which psi is 0, so that a row of such keys has no mass, and what finalize makes of that
    row, if it is no number; None: not found."""
    import torch

    assert node.psi is not None
    anchor = sym("s") if node.anchor is None else node.anchor
    parts = (node.phi, node.psi, anchor, node.finalize)
    for setting in settings(parts, ("s", "m", "acc", "mass", "vsum"), signed=False):
        phi, psi, top, finalize = (pinned(e, setting) for e in parts)
        s = torch.tensor(_scores(node.psi, node.scores == "nonnegative"), dtype=torch.float64)
        m = values(top, s=s) + node.offset
        mass, acc = values(psi, s=s, m=m), values(phi, s=s, m=m)
        found = values(finalize, acc=acc, mass=mass, vsum=torch.ones_like(s), m=m)
        wrong = (mass == 0) & acc.isfinite() & ~found.isfinite()
        # One score alone, such as 0 for s * s, makes no row of many keys.
        if int(wrong.sum()) > 1:
            i = int(wrong.nonzero()[0])
            return f"psi = 0 at s = {shown(float(s[i]))}{setting}, and finalize gives {float(found[i])} there"
    return None


def _scores(expr: Expr, nonnegative: bool, more: Iterable[float] = ()) -> Sequence[float]:
    """Scores to try: simple ones, and those on both sides of the literals of the expression."""
    near = [c + d for c in literals((expr,)) for sign in (1, -1) for d in (0.0, 0.5 * sign)]
    found = dict.fromkeys((*SCORES, *more, *near))
    return [s for s in found if abs(s) <= 20 and not (nonnegative and s < 0)]


def _distances(expr: Expr) -> list[float]:
    """How far below the anchor a score is where a literal matters, or its logarithm: a cut-off, a floor."""
    near = [d for c in literals((expr,)) if c for d in (abs(c), abs(math.log(abs(c))))]
    return [d + more for d in near for more in (0.0, 0.5) if d + more <= FARTHEST]


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _clear(value: float) -> bool:
    return abs(value) > NOTICEABLE
