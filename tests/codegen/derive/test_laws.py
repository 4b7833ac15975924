"""Declarations that break a law are refused, with the law and with numbers; those that keep it are not."""

from __future__ import annotations

import math
import random
import threading
from dataclasses import replace

import pytest
import torch

from attngen.codegen.derive import laws
from attngen.codegen.derive.laws import check_chain, check_keep, shift_rate
from attngen.codegen.derive.points import pinned, settings, values
from attngen.codegen.plan import make_plan
from attngen.errors import SpecError
from attngen.ir.expr import Expr, const, op, sym, symbols
from attngen.ir.normalizer import Chained, Ordered, Streaming
from attngen.ir.parse_expr import parse_expr
from tests.codegen.test_plan import problem_of
from tests.strategies import UNORDINARY, signatures

MEAN = op("safe_div", sym("acc"), sym("mass"))
EXP = "exp(s - m)"


def declared(phi: str, psi: str | None = None, anchor: str | None = "s", **more: object) -> Streaming:
    texts = {"phi": phi, "psi": psi, "anchor": anchor, **{k: v for k, v in more.items() if k in ("finalize", "lse")}}
    exprs = {key: parse_expr(text) for key, text in texts.items() if isinstance(text, str)}
    rest = {key: value for key, value in more.items() if key not in texts}
    return replace(Streaming("mine", phi=sym("s"), finalize=MEAN), **exprs, **rest)  # type: ignore[arg-type]


LAWFUL: list[tuple[Streaming, float]] = [
    (declared(EXP, EXP), 1.0),
    (declared("exp(s) / exp(m)", "exp(s) * exp(-m)"), 1.0),
    (declared("exp(s - m) ** 2", "exp(2.0 * s - 2.0 * m)", lse="m + log(mass) / 2.0"), 2.0),
    (declared("exp2((s - m) * 1.5)", "exp2(1.5 * (s - m))"), 1.5 * math.log(2)),
    (declared("sign(s) * exp(abs(s) - m)", "exp(abs(s) - m)", "abs(s)"), 1.0),
    (declared("relu(exp(s - m) - exp(-m))", "abs(exp(s - m) - exp(-m))", "relu(s)"), 1.0),
    (declared("where(s > 0.0, exp(s - m), 0.0)", EXP), 1.0),
    (declared("exp(3.0 * (log(maximum(s, 1e-30)) - m))", "exp(3.0 * (log(maximum(s, 1e-30)) - m))",
              "log(maximum(s, 1e-30))"), 3.0),
    (declared("exp(w[h] * s - m)", "exp(w[h] * s - m)", "w[h] * s"), 1.0),
    (declared("expm1(s - m) + 1.0", EXP), 1.0),
    (declared("exp(minimum(s - m, 0.0))", EXP, offset=0.25), 1.0),
    (declared("sigmoid(s)", "sigmoid(s)"), 0.0),
    (declared("s", "s * s - s + 0.25", None), 0.0),
    (declared("s", "s", None, scores="nonnegative"), 0.0),
    (declared("s", "s", None, finalize="acc / (1.0 + mass * mass)"), 0.0),
    (declared("s", "s", None, finalize="acc"), 0.0),
    (declared("s * s", "s * s", None, finalize="acc / mass"), 0.0),
    (declared("relu(s)", "relu(s)", None, finalize="acc / where(mass > 0.0, mass, 1.0)"), 0.0),
    (declared("relu(s)", "relu(s)", None, finalize="acc / mass", sink=const(1.0)), 0.0),
    (declared(EXP, EXP, finalize="acc / (mass + 1e-6 * exp(-m))"), 1.0),
    (declared(EXP, EXP, finalize="acc / where(mass > 0.0, mass, 1.0) + vsum / maximum(count, 1.0)"), 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("node", "k"), LAWFUL, ids=range(len(LAWFUL)))
def test_lawful(node: Streaming, k: float) -> None:
    assert shift_rate(node) == pytest.approx(k, rel=1e-12)


SHIFT = (
    "normalizer 'mine': phi and psi do not follow one shift law f(s, m + t) = exp(-k t) f(s, m), which a running "
    "anchor needs: "
)
WRITE = "; write them with exp(... - m), or declare no anchor"
STATIC = (
    "; k is a constant of the kernel: mark the number with attngen.static, or multiply before the anchor is taken, as "
    "in anchor = a * s with exp(a * s - m)"
)
MASS = (
    "the law is: the mass is a sum of non-negative terms; use relu, abs, exp, softplus or a square, or declare "
    'scores="nonnegative" where no score is below zero'
)
INVARIANT = (
    "finalize depends on where the anchor lies. Gradients take m as a constant, by the law of invariance "
    "finalize(exp(-k t) acc, exp(-k t) mass, m + t) = finalize(acc, mass, m), here with k = 1: "
)
ALONE = (
    "; divide by the mass alone, and give a constant beside it the factor exp(-k m), as in mass + eps * torch.exp(-m); "
    "the default finalize is acc / mass, with 0 for a row without mass"
)
LSE = (
    "lse depends on where the anchor lies. Gradients take m as a constant, by the law of invariance "
    "lse(m + t, exp(-k t) mass) = lse(m, mass), here with k = "
)
UNLAWFUL: list[tuple[Streaming, str]] = [
    (
        declared("sigmoid(s - m)", EXP),
        SHIFT + "phi at s = 0, m = 0, t = 1 asks for k = 0.620115, but then at s = 0, m = 0, t = 0.5 the left side is "
        "0.377541 and the right side 0.366702" + WRITE,
    ),
    (
        declared(EXP, "exp(s - m) + 1.0"),
        SHIFT + "psi at s = 0, m = 0, t = 1 asks for k = 0.379885, but then at s = 0, m = 0, t = 0.5 the left side is "
        "1.60653 and the right side 1.65401" + WRITE,
    ),
    (declared(EXP, "exp(2.0 * (s - m))"), SHIFT + "k is 1 for phi and 2 for psi" + WRITE),
    (declared("s", EXP), SHIFT + "k is 0 for phi and 1 for psi" + WRITE),
    (
        declared("exp(tau * (s - m))", "exp(tau * (s - m))"),
        SHIFT + "the k of phi is 0.75 with tau = 0.75, but 2.5 with tau = 2.5" + STATIC,
    ),
    (
        declared("exp(w[h] * (s - m))", "exp(w[h] * (s - m))"),
        SHIFT + "the k of phi is 0.75 with w[h] = 0.75, but 2.5 with w[h] = 2.5" + STATIC,
    ),
    (
        declared("where(s > m - 2.0, exp(s - m), 0.0)", EXP),
        SHIFT + "at s = 0, m = 0, t = 2, phi(s, m + t) = 0, but phi(s, m) = 1" + WRITE,
    ),
    (
        declared("exp(s + m)", "exp(s + m)"),
        SHIFT + "k is -1, but it must not be negative: what was summed before would grow with the anchor, and what is "
        "summed first has none" + WRITE,
    ),
    (
        # The largest key of a row, at m = s, is where the slope changes.
        declared("exp(minimum(s - m, 0.0))", EXP),
        SHIFT
        + "phi at s = 0, m = -1, t = 1 asks for k = 0, but then at s = 0, m = -1, t = 2 the left side is 0.367879 "
        "and the right side 1" + WRITE,
    ),
    (
        declared("exp(s - m) * (1.0 + 1e-9 * m)", EXP),
        SHIFT + "for phi, that could not be proved, nor could it be refuted" + WRITE,
    ),
    (
        declared("s", "s", None),
        "normalizer 'mine': psi can be negative (psi = -1 at s = -1), but finalize divides by the mass, and " + MASS,
    ),
    (
        declared("s", "tanh(s)", None, finalize="acc", lse="log(mass)"),
        "normalizer 'mine': psi can be negative (psi = -0.761594 at s = -1), but lse takes the logarithm of the mass, "
        "and " + MASS,
    ),
    (
        declared(EXP, "sign(s) * exp(s - m)"),
        "normalizer 'mine': psi can be negative (psi = -1 at s = -1, m = -1), but finalize divides by the mass, and "
        + MASS,
    ),
    (
        declared("exp(s)", "w[h] * exp(s)", None),
        "normalizer 'mine': psi can be negative (psi = -1.25 at s = 0 with w[h] = -1.25), but finalize divides by the "
        "mass, and " + MASS,
    ),
    (
        declared("s", "exp(s) - s + 0.001 * sin(s * s)", None),
        "normalizer 'mine': psi must not be negative, and that could not be proved, nor could it be refuted, but "
        "finalize divides by the mass, and " + MASS,
    ),
    (
        declared("relu(s)", "relu(s)", None, finalize="acc / mass"),
        "normalizer 'mine': a row may see keys and have no mass (psi = 0 at s = 0, and finalize gives nan there); "
        "leave finalize away, for acc / mass or 0, or divide by torch.where(mass > 0, mass, 1)",
    ),
    (
        declared(EXP, EXP, finalize="acc / (mass + 1e-3)"),
        f"normalizer 'mine': {INVARIANT}at acc = 1, mass = 2, t = 2 the left side is 0.49816 and the right side "
        f"0.49975{ALONE}",
    ),
    (
        declared(EXP, EXP, finalize="acc / maximum(mass, 1e-6)"),
        f"normalizer 'mine': {INVARIANT}at acc = 1, mass = 1e-06, t = 1 the left side is 367879 and the right side "
        f"1e+06{ALONE}",
    ),
    (
        declared(EXP, finalize="acc"),
        f"normalizer 'mine': {INVARIANT}at acc = 1, t = 1 the left side is 0.367879 and the right side 1; declare a "
        "psi and divide by the mass, or declare no anchor",
    ),
    (
        declared(EXP, EXP, lse="log(mass)"),
        f"normalizer 'mine': {LSE}1: at mass = 2, t = 1 the left side is -0.306853 and the right side 0.693147; write "
        "m + torch.log(mass)",
    ),
    (
        declared("exp(2.0 * (s - m))", "exp(2.0 * (s - m))", lse="m + log(mass)"),
        f"normalizer 'mine': {LSE}2: at mass = 2, m = 0, t = 1 the left side is -0.306853 and the right side "
        "0.693147; write m + torch.log(mass) / 2",
    ),
]


@pytest.mark.parametrize(("node", "message"), UNLAWFUL, ids=range(len(UNLAWFUL)))
def test_unlawful(node: Streaming, message: str) -> None:
    with pytest.raises(SpecError) as error:
        shift_rate(node)
    assert error.value.message == message


def test_plans_of_parsed_specs_are_held_to_the_laws() -> None:
    import attngen

    text = str(attngen.Spec())
    assert "finalize: safe_div(acc, mass)" in text
    spec = attngen.Spec.parse(text.replace("safe_div(acc, mass)", "acc / (mass + 0.5)"))
    with pytest.raises(SpecError, match="finalize depends on where the anchor lies"):
        make_plan(spec.ir, problem_of(spec))


def test_the_line_of_this_declaration_is_shown() -> None:
    import attngen

    def twice(s, m):  # type: ignore[no-untyped-def]
        return torch.exp(2 * s - m) + m

    for _ in range(2):
        with pytest.raises(SpecError) as error:
            attngen.normalizers.streaming("mine", phi=twice, anchor=lambda s: s)
        assert "return torch.exp(2 * s - m) + m" in str(error.value)


def test_out_of_time_is_refused_on_any_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laws, "LIMIT", 0.3)
    tower: Expr = op("expm1", op("sub", sym("s"), sym("m")))
    for _ in range(30):
        tower = op("mul", tower, tower)
    node = Streaming("slow", phi=tower, finalize=const(0.0), anchor=sym("s"))
    found: list[str] = []

    def work() -> None:
        try:
            shift_rate(node)
        except SpecError as error:
            found.append(error.message)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert "phi was given 0.3 s, and that could not be proved, nor could it be refuted" in found[0]


def test_chains_hand_on_masses_that_are_masses() -> None:
    first = declared("s", "s", None, finalize="acc")
    with pytest.raises(SpecError) as error:
        check_chain(Chained("two", (first, declared(EXP, EXP))))
    assert error.value.message == (
        "normalizer 'two', pass 0: psi can be negative (psi = -1 at s = -1), but the next pass gets phi / mass, and "
        "the mass is a sum of non-negative terms; use relu, abs, exp, softplus or a square"
    )
    with pytest.raises(SpecError, match="'mine': phi and psi do not follow one shift law"):
        check_chain(Chained("two", (declared(EXP, EXP), declared("exp(s) + m", "exp(s)"))))
    check_chain(Chained("two", (declared(EXP, EXP), declared("s", None, None, finalize="acc"))))


KEPT = [
    "-softplus(s)",
    "-relu(s)",
    "minimum(s, 0.0)",
    "log(sigmoid(s))",
    "log1p(-sigmoid(s))",
    "0.0",
    "s - exp(s) + 1.0",
]


@pytest.mark.parametrize("text", KEPT)
def test_shares_that_are_kept(text: str) -> None:
    check_keep(Ordered("mine", "backward", sym("s"), parse_expr(text)))


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("softplus(s)", "here log_keep = 0.693147 at s = 0"),
        ("s", "here log_keep = 1 at s = 1"),
        ("0.125 - relu(s)", "here log_keep = 0.125 at s = 0"),
        ("-softplus(s) + w[h]", "here log_keep = 0.0568528 at s = 0 with w[h] = 0.75"),
        ("s - exp(s) + 1.0 - 1e-9 * sin(s)", "that could not be proved, nor could it be refuted"),
    ],
)
def test_more_than_there_was_cannot_be_kept(text: str, detail: str) -> None:
    with pytest.raises(SpecError) as error:
        check_keep(Ordered("mine", "backward", sym("s"), parse_expr(text)))
    assert error.value.message == (
        "normalizer 'mine': log_keep is the logarithm of the share that a key leaves to those after it, so it must "
        f"never be positive; {detail}; write -softplus(s), -relu(s), or minimum(..., 0)"
    )


def grown(rng: random.Random, kind: str, depth: int, leaves: list[Expr]) -> Expr:
    if kind == "float" and (depth == 0 or rng.random() < 0.3):
        return rng.choice(leaves)
    if kind == "bool":
        sides = [grown(rng, "float", max(depth - 1, 0), leaves) for _ in range(2)]
        return op(rng.choice(["lt", "le", "gt", "ge"]), *sides)
    names = [s for s in signatures("float", UNORDINARY) if set(s[1]) <= {"float"} or s[0] == "where"]
    name, types = rng.choice([s for s in names if s[0] not in ("sin", "cos", "floordiv", "mod")])
    return op(name, *(grown(rng, t, depth - 1, leaves) for t in types[:1]), *(
        grown(rng, "float", depth - 1, leaves) for _ in types[1:]
    ))  # fmt: skip


LEAVES = {
    "shift": [sym("s"), sym("m"), parse_expr(EXP), parse_expr(EXP), parse_expr("exp(-m)"), parse_expr("s - m"),
              const(0.0), const(1.5), const(-2.0), parse_expr("exp(s)")],
    "mass": [sym("s"), sym("s"), const(0.0), const(1.5), const(-2.0), parse_expr("exp(s)"), parse_expr("s * s")],
    "result": [sym("acc"), sym("mass"), sym("m"), parse_expr("acc / mass"), parse_expr("m + log(mass)"),
               parse_expr("exp(m)"), const(0.0), const(1.5)],
}  # fmt: skip


@pytest.mark.parametrize("law", LEAVES)
def test_nothing_unlawful_passes(law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random parts of declarations: what passes keeps its law at random numbers."""
    monkeypatch.setattr(laws, "LIMIT", 0.5)
    rng, passed, draw = random.Random(7), 0, torch.Generator().manual_seed(0)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(200, generator=draw, dtype=torch.float64) * (high - low) + low

    s, acc, mass, t = uniform(-4, 4), uniform(-3, 3), uniform(0.01, 4), uniform(0, 2)
    s[:10] = 0
    m = s + uniform(0, 3)
    m[:20] = s[:20]
    for _ in range(120):
        expr = grown(rng, "float", 4, LEAVES[law])
        if not symbols(expr):
            continue
        exp = parse_expr(EXP)
        node = {
            "shift": Streaming("x", phi=expr, finalize=const(0.0), anchor=sym("s")),
            "mass": Streaming("x", phi=sym("s"), psi=expr, finalize=MEAN),
            "result": Streaming("x", phi=exp, psi=exp, finalize=expr, anchor=sym("s")),
        }[law]
        try:
            k = shift_rate(node)
        except SpecError:
            continue
        passed += 1
        fixed = pinned(expr, settings((expr,), ("s", "m", "acc", "mass"))[0])
        if law == "shift":
            left, right = values(fixed, s=s, m=m + t), values(fixed, s=s, m=m) * torch.exp(-k * t)
        elif law == "mass":
            left = values(fixed, s=s)
            right = left.clamp(min=0)
        else:
            left = values(fixed, acc=acc * torch.exp(-t), mass=mass * torch.exp(-t), m=m + t)
            right = values(fixed, acc=acc, mass=mass, m=m)
        known = left.isfinite() & right.isfinite() & (left.abs() < 1e10)
        apart = (left - right).abs() > 1e-6 * (left.abs() + right.abs()) + 1e-9
        assert not (known & apart).any(), expr
    assert passed > 10
