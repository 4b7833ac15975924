"""Normalizers that need more than one look at a row: chains of passes, thresholds, sums in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, normalizers, weights
from attngen.ir.expr import op, sym
from attngen.ir.nodes import Branch, Concat, Dot, Input, KeySet, Spec, View
from tests.end_to_end.oracle import BACKEND, check, kernel_of, operands, random
from tests.kinds import some

pytestmark = pytest.mark.cxx


def chain() -> Any:
    """Three passes with anchors, offsets, sinks and a log-sum-exp."""
    first = normalizers.softmax(sink=0.25, numerics="adjusted")
    second = normalizers.streaming("shares", phi=lambda s, q: s * s * (1 + q), psi=lambda s: torch.abs(s) + 0.01)
    third = normalizers.streaming(
        "again",
        phi=lambda s, m: torch.exp(5 * s - m),
        psi=lambda s, m: torch.exp(5 * s - m),
        anchor=lambda s: 5 * s,
        sink=lambda h: h * 0.25 - 0.5,
        lse=lambda m, mass: m + torch.log(mass),
    )
    return normalizers.chained("chain", first, second, third)


def forward() -> Any:
    rate = torch.tensor([0.1, 0.5, 1.0, 2.0])
    return normalizers.ordered(
        "forward",
        direction="forward",
        weight=lambda s, h: torch.exp(-torch.abs(s) * rate[h]),
        log_keep=lambda s: -0.1 * torch.sigmoid(s),
    )


RULES: dict[str, Callable[[], Any]] = {
    "lssar": lambda: normalizers.lssar(3, 0.5),
    "lssar-steep": lambda: normalizers.lssar(15, 0.5, amplify=41.3),
    "lssar-visible": lambda: normalizers.lssar(4, 0.5, amplify="n_visible"),
    "entmax": lambda: normalizers.entmax(1.5),
    "entmax-1.05": lambda: normalizers.entmax(1.05),
    "entmax-1.2": lambda: normalizers.entmax(1.2),
    "entmax-1.3": lambda: normalizers.entmax(1.3),
    "entmax-3": lambda: normalizers.entmax(3.0),
    "sparsemax": lambda: normalizers.sparsemax(),
    "stick-breaking": lambda: normalizers.stick_breaking(),
    "forward": forward,
    "chain": chain,
}
BOUNDS = {"entmax-3": 1e-4, "lssar-steep": 2e-5}
"""A weight of sqrt(x) has no slope at the edge of the support: there the rounding of a score costs half its digits.

The 15th power of a share multiplies its rounding by as much.
"""

FEW = ("lssar", "entmax", "sparsemax", "stick-breaking", "forward", "chain")
KINDS = ("lssar", "entmax", "stick-breaking")
"""One rule of each kind of pass: a sum, a root, a scan."""
LATE = masks.Mask.of(lambda q, kv: (q > 5) & (kv <= q))
IDS = (torch.arange(300) * 7 % 300 // 43).sort().values
MASKS: dict[str, Callable[[], Any]] = {
    "full": masks.full,
    "late": lambda: LATE,
    "window": lambda: masks.sliding_window(33),
    "documents": lambda: masks.document(IDS),
    "scattered": lambda: masks.Mask.of(lambda q, kv: (q * 5 + kv * 3) % 7 < 2),
}


# All passes visit keys in one way, but a scan may do so from the end.
TABLES = [("entmax", "documents"), ("stick-breaking", "documents"), ("lssar", "scattered")]
CASES = [*((rule, "late") for rule in RULES), *((rule, m) for rule in KINDS for m in ("full", "window")), *TABLES]


LATER = [(rule, "late") for rule in ("lssar-steep", "entmax-1.05", "entmax-1.3", "entmax-3", "sparsemax")]
LATER += [
    ("lssar", "window"),
    ("entmax", "full"),
    ("lssar", "full"),
    ("entmax", "window"),
    ("stick-breaking", "full"),
    ("lssar-visible", "late"),
]


@pytest.mark.parametrize(("rule", "mask"), some(CASES, *LATER))
def test_masks(rule: str, mask: str) -> None:
    kernel = kernel_of(attngen.Spec(mask=MASKS[mask](), normalizer=RULES[rule]()))
    for n_q, n_k in [(300, 300), (1, 1), (7, 500), (130, 33), (33, 0)]:
        if mask != "documents" or (n_q, n_k) == (300, 300):
            check(kernel, *operands(n_q=n_q, n_k=n_k, dv=5), lse=rule == "chain", bound=BOUNDS.get(rule))


MORE = ("lssar-steep", "lssar-visible", "entmax-1.05", "entmax-1.3", "entmax-3", "sparsemax")


@pytest.mark.parametrize("rule", some(RULES, *MORE))
@pytest.mark.parametrize("size", [0.0, 1e-6, 30.0], ids=["zero", "tiny", "large"])
def test_scores(rule: str, size: float) -> None:
    q, k, v = operands(n_q=130, dv=5)
    check(attngen.Spec(mask=LATE, normalizer=RULES[rule]()), q * size, k, v, bound=BOUNDS.get(rule))


@pytest.mark.parametrize("rule", some(RULES, *MORE))
def test_ties(rule: str) -> None:
    # Few different scores, each many times: whole groups of keys enter and leave the support together.
    q, k, v = operands(n_q=130, dv=5)
    check(attngen.Spec(mask=LATE, normalizer=RULES[rule]()), q.round() / 4, k.round(), v, bound=BOUNDS.get(rule))


@pytest.mark.parametrize("rule", ["entmax", "entmax-1.2", "entmax-1.3", "entmax-3", "sparsemax"])
@pytest.mark.parametrize("spread", [100.0, 1e4, 1e30], ids=["far", "farther", "at-the-end"])
def test_one_key_far_above_the_others(rule: str, spread: float) -> None:
    q, k, v = torch.ones(1, 1, 3, 16), torch.zeros(1, 1, 200, 16), random(1, 1, 200, 5)
    k[:, :, 77] = spread
    out = check(attngen.Spec(normalizer=RULES[rule]()), q, k, v)
    torch.testing.assert_close(out[0, 0, 0], v[0, 0, 77])


@pytest.mark.parametrize("rule", ["entmax", "entmax-1.2", "entmax-1.3", "entmax-3", "sparsemax"])
def test_weights_sum_to_one(rule: str) -> None:
    q, k, _ = operands(n_q=40, n_k=3000)
    ones = torch.ones(2, 2, 3000, 5)
    out = kernel_of(attngen.Spec(normalizer=RULES[rule]()))(q, k, ones)
    torch.testing.assert_close(out, torch.ones_like(out), rtol=0, atol=1e-3 if rule in BOUNDS else 3e-6)


@pytest.mark.parametrize(("rule", "dtype"), [("lssar", torch.float64), ("entmax", torch.bfloat16)], ids=str)
def test_dtypes(rule: str, dtype: torch.dtype) -> None:
    # test_gradients_dtypes has the others.
    check(attngen.Spec(mask=LATE, normalizer=RULES[rule]()), *operands(n_q=130, dv=40, dtype=dtype))


@pytest.mark.parametrize("rule", ["lssar", "stick-breaking"])
def test_grid(rule: str) -> None:
    mask = masks.Mask.of(lambda q, kv: (torch.abs(q[0] - kv[0]) <= 1) & (kv[1] <= q[1]) & (q[1] - kv[1] < 4))
    check(attngen.Spec(mask=mask, space=attngen.Grid(9, 11), normalizer=RULES[rule]()), *operands(n_q=99))


@pytest.mark.parametrize("rule", FEW)
def test_many_keys(rule: str) -> None:
    # Longer than a key tile by far, and so few queries that a tile is not full.
    kernel = kernel_of(attngen.Spec(normalizer=RULES[rule]()))
    check(kernel, *operands(b=1, n_q=5, n_k=5000, dv=5))
    check(kernel, *operands(b=1, n_q=130, n_k=1000, dv=5))


def test_dropout_on_top_of_two_passes() -> None:
    # test_gradients_weights has weights on top of roots and scans.
    spec = attngen.Spec(mask=masks.causal(), normalizer=RULES["lssar"](), weight=weights.dropout(0.3, seed=5))
    check(spec, *operands(n_q=130))


@pytest.mark.parametrize("rule", KINDS)
def test_a_score_of_minus_infinity_is_absent_in_every_pass(rule: str) -> None:
    def score(score: Any, q: Any, kv: Any) -> Any:
        return torch.where((q + kv) % 3 == 0, -torch.inf, score)

    check(attngen.Spec(score=score, mask=LATE, normalizer=RULES[rule]()), *operands(n_q=130))


@pytest.mark.parametrize("rule", KINDS)
def test_absent_keys_leak_nothing(rule: str) -> None:
    kernel = kernel_of(attngen.Spec(mask=masks.sliding_window(40), normalizer=RULES[rule]()))
    q, k, v = operands(n_q=130, dv=5)
    expected = kernel(q, k, v)
    k[:, :, 100:], v[:, :, 100:] = float("nan"), float("inf")
    assert torch.equal(kernel(q, k, v)[:, :, :100], expected[:, :, :100])


@pytest.mark.parametrize("rule", FEW)
def test_products_that_overflow(rule: str) -> None:
    q, k, v = operands(n_q=40, dv=5)
    assert not kernel_of(attngen.Spec(mask=LATE, normalizer=RULES[rule]()))(q * 1e20, k * 1e20, v).isnan().any()


@pytest.mark.parametrize("rule", [rule for rule in KINDS if rule != "lssar"])  # it says that NaN > 0 is false
def test_what_is_not_a_number_is_not_hidden(rule: str) -> None:
    kernel = kernel_of(attngen.Spec(normalizer=RULES[rule]()))
    q, k, v = operands(n_q=40, dv=5)
    q[:, :, 7, 3] = float("nan")
    out = kernel(q, k, v)
    assert out[:, :, 7].isnan().all()
    assert not out[:, :, :7].isnan().any()
    assert not out[:, :, 8:].isnan().any()


EXTRA = (Input("text_k", ("b", "h", "?", "?")), Input("text_v", ("b", "h", "?", "?")))
MASKED = op("lt", op("mod", op("add", sym("kv"), sym("q")), 3), 2)


@pytest.mark.parametrize("rule", ["lssar-visible", "entmax", "stick-breaking", "chain"])
def test_key_sets(rule: str) -> None:
    # An ordered normalizer visits the main keys before the extra ones, or after them when it goes backward.
    normalizer = RULES[rule]()
    extra = KeySet((Dot(k=View("text_k")),), View("text_v"), mask=MASKED)
    branch = Branch(normalizer.ir, mask=op("le", sym("kv"), sym("q")), keysets=(extra,))
    kernel = attngen.compile(
        attngen.Spec.from_ir(Spec((branch,), inputs=(*EXTRA, *normalizer.inputs)), normalizer.bindings), backend=BACKEND
    )
    for n in (1, 200, 0):
        check(kernel, *operands(n_q=130), text_k=random(2, 4, n, 16), text_v=random(2, 4, n, 16, seed=2))


def test_forward_over_key_sets() -> None:
    ordered = normalizers.ordered(
        "plain", direction="forward", weight=lambda s: torch.exp(s), log_keep=lambda s: -torch.abs(s)
    )
    extra = KeySet((Dot(k=View("text_k")),), View("text_v"), mask=MASKED)
    spec = Spec((Branch(ordered.ir, keysets=(extra,)),), inputs=EXTRA)
    check(spec, *operands(n_q=130), text_k=random(2, 4, 60, 16), text_v=random(2, 4, 60, 16, seed=2))


def test_branches_side_by_side() -> None:
    rules = [normalizers.softmax(), normalizers.entmax(1.5), normalizers.stick_breaking(), normalizers.sparsemax()]
    causal = op("le", sym("kv"), sym("q"))
    spec = Spec(tuple(Branch(rule.ir, mask=causal) for rule in rules), combine=Concat())
    check(spec, *operands(n_q=130))


def test_tensors_in_an_inner_pass() -> None:
    shift = random(4)
    first = normalizers.streaming("first", phi=lambda s, h: torch.sigmoid(s + shift[h]), psi=lambda s: torch.exp(s))
    rule = normalizers.chained("tensors", first, normalizers.streaming("second", phi=lambda s, h: s * shift[h]))
    check(attngen.Spec(mask=masks.causal(), normalizer=rule), *operands(n_q=130))


def test_rows_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are kept of as many rows as fit: of some of a tile where there are very many keys, to the same bits."""
    from attngen.templates import read

    text = read("cpp/passes.h").replace("MOST_KEPT = 1 << 20", "MOST_KEPT = 1 << 12")
    assert text != read("cpp/passes.h")
    q, k, v = operands(n_q=130, n_k=900)
    for rule in ("entmax", "lssar"):
        spec = attngen.Spec(mask=masks.causal(), normalizer=RULES[rule]())
        whole = kernel_of(spec)(q, k, v)
        with monkeypatch.context() as patch:
            patch.setattr("attngen.templates.read", lambda name: text if name == "cpp/passes.h" else read(name))
            patch.setattr("attngen.codegen.backends.cpu.backend.fingerprint", lambda folder: f"parts of rows {folder}")
            parts = kernel_of(spec.named(f"{rule}_in_parts"))(q, k, v)
        assert torch.equal(parts, whole)
