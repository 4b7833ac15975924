"""Every normalizer against its formula in dense torch, through the reference; rows without keys give 0."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import softplus

from attngen import masks, normalizers
from attngen.errors import SpecError
from attngen.spec import Spec
from tests.library.dense import qkv, run, scores

TENSORS = qkv(h=3, n_q=7, n_k=9)
S, V = scores(TENSORS), TENSORS["v"]
SEEN = torch.arange(9) <= torch.arange(7)[:, None]
SINK = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
NORMAL = torch.distributions.Normal(0.0, 1.0)


def over_sum(weight, extra=0.0):
    return weight / (weight.sum(-1, keepdim=True) + extra)


def kept(weight):
    return torch.where(SEEN, weight, 0.0)


def lssar(power, offset, amplify):
    first = over_sum(kept(softplus(S)))
    return over_sum(kept(torch.relu(amplify * first - offset) ** power))


def stick_breaking():
    weight = torch.zeros_like(S)
    for q in range(7):
        left = torch.ones_like(S[..., q, 0])
        for j in reversed(range(min(q + 1, 9))):
            share = torch.sigmoid(S[..., q, j])
            weight[..., q, j], left = left * share, left * (1 - share)
    return weight


def sparsemax():
    scored = torch.where(SEEN, S, -torch.inf)
    low, high = S.amin() - 2, S.amax()
    low, high = low.expand(S.shape[:3]).clone(), high.expand(S.shape[:3]).clone()
    for _ in range(80):
        tau = (low + high) / 2
        more = torch.relu(scored - tau[..., None]).sum(-1) > 1
        low, high = torch.where(more, tau, low), torch.where(more, high, tau)
    return torch.relu(scored - low[..., None])


def gauss(s):
    return NORMAL.cdf((s - 0.707107) / 0.282095)


EXP = kept(torch.exp(S))
PICKED = kept(torch.exp(S) - 1)
CASES = {
    "softmax": (normalizers.softmax(), over_sum(EXP)),
    "softmax adjusted": (normalizers.softmax(numerics="adjusted"), over_sum(EXP)),
    "softmax sink": (normalizers.softmax(sink=0.7), over_sum(EXP, math.exp(0.7))),
    "softmax sinks": (normalizers.softmax(sink=SINK), over_sum(EXP, SINK.exp()[:, None, None])),
    "softmax1": (normalizers.softmax1(), over_sum(EXP, 1.0)),
    "sigmoid": (normalizers.sigmoid(), kept(torch.sigmoid(S))),
    "sigmoid bias": (normalizers.sigmoid(-2), kept(torch.sigmoid(S - 2))),
    "sigmoid biases": (normalizers.sigmoid(SINK), kept(torch.sigmoid(S + SINK[:, None, None]))),
    "relu": (normalizers.relu(), kept(torch.relu(S)) / 9),
    "relu squared": (normalizers.relu(2, divide_by="none"), kept(torch.relu(S) ** 2)),
    "relu count": (normalizers.relu(3, "count"), kept(torch.relu(S) ** 3) / SEEN.sum(-1, keepdim=True)),
    "softplus": (normalizers.softplus_l1(), over_sum(kept(softplus(S)))),
    "cog": (normalizers.cog(), kept(S.sign() * S.abs().exp()) / kept(S.abs().exp()).sum(-1, keepdim=True)),
    "laplace": (normalizers.laplace(), kept(gauss(S))),
    "none": (normalizers.none(), kept(S)),
    "linear": (normalizers.linear(), over_sum(kept(S.abs()))),
    "linear eps": (normalizers.linear(0.5), over_sum(kept(S.abs()), 0.5)),
    "softpick": (normalizers.softpick(), torch.relu(PICKED) / PICKED.abs().sum(-1, keepdim=True)),
    "affine": (normalizers.affine(0.5, SINK), kept(0.5 * over_sum(EXP) + SINK[:, None, None])),
    "lssar": (normalizers.lssar(2, 0.3), lssar(2, 0.3, 9)),
    "lssar visible": (normalizers.lssar(3, 0.3, "n_visible"), lssar(3, 0.3, SEEN.sum(-1, keepdim=True))),
    "lssar number": (normalizers.lssar(15, 0.3, 4.0), lssar(15, 0.3, 4.0)),
    "sparsemax": (normalizers.sparsemax(), sparsemax()),
    "stick_breaking": (normalizers.stick_breaking(), stick_breaking()),
}


def score_of(name):
    """Linear attention is for scores that are never negative."""
    return (lambda score: abs(score)) if name.startswith("linear") else None


@pytest.mark.parametrize("name", CASES)
def test_formula(name):
    normalizer, weights = CASES[name]
    out = run(Spec(mask=masks.causal(), score=score_of(name), normalizer=normalizer), TENSORS)
    assert torch.allclose(out, weights @ V, atol=1e-6 if name == "laplace" else 1e-9, rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_empty_rows_give_zero_with_gradient_zero(name):
    tensors = {key: tensor.clone().requires_grad_() for key, tensor in TENSORS.items()}
    spec = Spec(mask=lambda q, kv: (kv < 3) & (q > 2), score=score_of(name), normalizer=CASES[name][0])
    out = run(spec, tensors)
    assert out[:, :, :3].abs().max() == 0
    assert out[:, :, 3:].abs().max() > 0
    grads = torch.autograd.grad(out.sum(), list(tensors.values()))
    assert all(torch.isfinite(grad).all() for grad in grads)
    assert grads[0][:, :, :3].abs().max() == 0


@pytest.mark.parametrize("size", [200.0, 5000.0])
@pytest.mark.parametrize("name", [n for n in CASES if n not in ("none", "relu squared", "relu count", "relu")])
def test_large_scores_do_not_overflow_fp32(name, size):
    """In fp32 each phi and psi, at the anchor of its row, stays finite for scores of either sign."""
    import attngen.ir.normalizer as ir
    from attngen.ir.evaluate import Environment, evaluate

    declared = CASES[name][0].ir
    passes = declared.passes[:1] if isinstance(declared, ir.Chained) else (declared,)
    for s in (
        torch.linspace(-size, size, 64),
        torch.linspace(-size, -size / 2, 64),
        torch.linspace(size / 2, size, 64),
    ):
        for one in passes:
            if not isinstance(one, ir.Streaming):
                continue
            row = {i.name: torch.as_tensor(CASES[name][0].bindings[i.name].fetch()) for i in CASES[name][0].inputs}
            symbols = {"s": s, "h": torch.tensor(0), "n_k": torch.tensor(64), "n_visible": torch.tensor(64)}
            if one.anchor is not None:
                symbols["m"] = evaluate(one.anchor, Environment(symbols, row)).amax() + one.offset
            for expr in (one.phi, one.psi):
                if expr is not None:
                    assert evaluate(expr, Environment(symbols, row)).abs().max() < torch.finfo(torch.float32).max


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("softmax", EXP.sum(-1).log()),
        ("softmax adjusted", EXP.sum(-1).log()),
        ("softmax sink", (EXP.sum(-1) + math.exp(0.7)).log()),
        ("softmax1", (EXP.sum(-1) + 1).log()),
        ("cog", kept(S.abs().exp()).sum(-1).log()),
        ("affine", EXP.sum(-1).log()),
    ],
)
def test_log_sum_exp(name, expected):
    _, lse = run(Spec(mask=masks.causal(), normalizer=CASES[name][0]), TENSORS, return_lse=True)
    assert torch.allclose(lse, expected)


def test_empty_row_with_a_sink_has_its_log_sum_exp():
    _, lse = run(Spec(mask="kv < 0", normalizer=normalizers.softmax(sink=SINK)), TENSORS, return_lse=True)
    assert torch.allclose(lse, SINK[:, None].expand(2, 3, 7))


@pytest.mark.parametrize("alpha", [1.2, 1.5, 3.0])
def test_entmax_solves_its_equation(alpha):
    tensors = {**TENSORS, "v": torch.eye(9, dtype=torch.float64).expand(2, 3, 9, 9)}
    p = run(Spec(normalizer=normalizers.entmax(alpha)), tensors)
    assert torch.allclose(p.sum(-1), torch.ones(2, 3, 7, dtype=torch.float64))
    tau = (alpha - 1) * S - p ** (alpha - 1)
    on = p > 1e-6
    spread = torch.where(on, tau, -torch.inf).amax(-1) - torch.where(on, tau, torch.inf).amin(-1)
    assert spread.max() < 1e-6


def test_the_adjusted_offset_makes_a_weight_that_bf16_holds():
    offset = normalizers.softmax(numerics="adjusted").ir.offset
    weight = torch.exp(torch.tensor(-offset))
    assert 0 < offset <= 0.5
    assert weight.bfloat16().double() == weight.half().double() == 157 / 256


def test_own_declaration():
    squared = normalizers.streaming("squared", phi=lambda s: s * s, psi=lambda s: s * s)
    out = run(Spec(mask=masks.causal(), normalizer=squared), TENSORS)
    assert torch.allclose(out, over_sum(kept(S * S)) @ V)


def test_own_declaration_with_captured_tensor_and_finalize():
    gate = torch.rand(2, 3, 7, dtype=torch.float64)
    gated = normalizers.streaming(
        "gated",
        phi=lambda s, m: torch.exp(s - m),
        psi=lambda s, m: torch.exp(s - m),
        anchor=lambda s: s,
        finalize=lambda acc, mass, b, h, q: gate[b, h, q] * acc / mass,
    )
    out = run(Spec(mask=masks.causal(), normalizer=gated), TENSORS)
    assert torch.allclose(out, gate[..., None] * (over_sum(EXP) @ V))


def test_every_name_is_a_normalizer():
    for name in normalizers.ALL:
        if name not in ("affine", "lssar"):
            assert Spec(score=score_of(name), normalizer=name).ir.branches[0].normalizer.name == name


BAD = [
    (lambda: Spec(normalizer="softmx"), r"normalizer: got 'softmx'; .*did you mean 'softmax'"),
    (
        lambda: Spec(normalizer="lssar"),
        r"normalizer: 'lssar' needs power, offset; write normalizers.lssar\(power=...\)",
    ),
    (lambda: Spec(normalizer=3), "normalizer: got 3; allowed: a name, or an object of attngen.normalizers"),
    (lambda: Spec(normalizer=normalizers.sigmoid), r"call it: normalizers.sigmoid\(...\)"),
    (
        lambda: normalizers.softmax(sink="x"),
        r"sink: got 'x'; allowed: a finite number, or a floating-point tensor \(\) or \(H,\)",
    ),
    (lambda: normalizers.softmax(sink=math.inf), "sink: got inf; allowed: a finite number"),
    (
        lambda: normalizers.softmax(numerics="adjust"),
        "numerics: got 'adjust'; allowed: adjusted.*did you mean 'adjusted'",
    ),
    (lambda: normalizers.relu(0.5), "power: got 0.5; allowed: a finite number >= 1"),
    (lambda: normalizers.relu(1, "keys"), "divide_by: got 'keys'; allowed: n_k, count, none"),
    (lambda: normalizers.entmax(1.0), "alpha: got 1.0; allowed: a number > 1"),
    (lambda: normalizers.lssar(2, 0.1, "n"), "amplify: got 'n'; allowed: a number > 0, 'n_k' or 'n_visible'"),
    (lambda: normalizers.linear(-1), "eps: got -1; allowed: a finite number >= 0"),
    (lambda: normalizers.streaming("mine", phi=3), "mine, phi: got 3; allowed: a function"),
    (lambda: normalizers.streaming("mine", phi=lambda s: s, offset=0.1), "offset: got 0.1 without an anchor"),
    (
        lambda: normalizers.chained("mine", normalizers.none(), normalizers.none()),
        r"passes\[0\]: got .* none>; allowed",
    ),
    (
        lambda: normalizers.ordered("mine", "up", lambda s: s, lambda s: s),
        "direction: got 'up'; allowed: backward, forward",
    ),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments(make, message):
    with pytest.raises(SpecError, match=message):
        make()
