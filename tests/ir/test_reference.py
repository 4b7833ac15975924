"""The reference against dense attention written by hand, one test for each family of mechanisms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.nn.functional import elu, scaled_dot_product_attention, softplus

from attngen.errors import BoundsError, InputError
from attngen.ir.nodes import Spec
from attngen.ir.reference import reference
from tests.calls import tensors_for
from tests.ir.mechanisms import (
    COG,
    LINEAR,
    LSSAR,
    PLAIN,
    SIGMOID,
    SOFTMAX,
    SOFTPICK,
    SOFTPLUS,
    SQUARED_RELU,
    STICK,
    branch,
    close,
    one,
    qkv,
    run,
    scores,
    with_sink,
)
from tests.strategies import PATIENT, specs

CAUSAL = "mask: q >= kv"


def causal(n: int) -> Tensor:
    return torch.ones(n, n, dtype=torch.bool).tril()


def test_softmax_is_sdpa() -> None:
    t = qkv(5, 7)
    close(
        one(branch(), t), scaled_dot_product_attention(**dict(zip(("query", "key", "value"), t.values(), strict=True)))
    )


def test_log_sum_exp() -> None:
    t = qkv()
    out, lse = run(branch(rest=CAUSAL), t, lse=True)
    s = scores(t).masked_fill(~causal(5), -torch.inf)
    close(out, s.softmax(-1) @ t["v"])
    close(lse, s.logsumexp(-1))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_heads(kv_heads: int) -> None:
    t = qkv(heads=4, kv_heads=kv_heads)
    wide = {name: x.repeat_interleave(4 // x.shape[1], 1) for name, x in t.items()}
    close(one(branch(), t), scores(wide).softmax(-1) @ wide["v"])


def test_one_shared_query_head_and_batch() -> None:
    t = qkv()
    t["q"] = t["q"][:1, :1]
    wide = {**t, "q": t["q"].expand(2, 2, -1, -1)}
    close(one(branch(), t), one(branch(), wide))


def test_sink() -> None:
    t = qkv() | {"sinks": torch.tensor([0.5, -1.0], dtype=torch.float64)}
    body = "input sinks[h]: float grad " + branch(with_sink("sinks[h]"))
    s = torch.cat([scores(t), t["sinks"].reshape(1, 2, 1, 1).expand(2, 2, 5, 1)], -1)
    out, lse = run(body, t, lse=True)
    close(out, s.softmax(-1)[..., :-1] @ t["v"])
    close(lse, s.logsumexp(-1))


def test_softmax1() -> None:
    t = qkv()
    s = scores(t)
    close(one(branch(with_sink("0.0")), t), s.exp() / (1 + s.exp().sum(-1, keepdim=True)) @ t["v"])


def test_offset_changes_nothing_but_rounding() -> None:
    t = qkv()
    adjusted = SOFTMAX.replace("anchor: s", "anchor: s offset: 0.5")
    plain, shifted = run(branch(), t, lse=True), run(branch(adjusted), t, lse=True)
    close(plain[0], shifted[0])
    close(plain[1], shifted[1])


@pytest.mark.parametrize(
    ("normalizer", "weights"),
    [
        (SIGMOID, lambda s: s.sigmoid()),
        (SQUARED_RELU, lambda s: s.relu() ** 2 / 5),
        (SOFTPLUS, lambda s: softplus(s) / softplus(s).sum(-1, keepdim=True)),
        (COG, lambda s: s.sign() * s.abs().softmax(-1)),
        (SOFTPICK, lambda s: (s.exp() - 1).relu() / (s.exp() - 1).abs().sum(-1, keepdim=True)),
        (PLAIN, lambda s: s),
        (LINEAR, lambda s: s / s.sum(-1, keepdim=True)),
    ],
)
def test_streaming_normalizers(normalizer: str, weights: object) -> None:
    t = qkv()
    close(one(branch(normalizer), t), weights(scores(t)) @ t["v"])  # type: ignore[operator]


def test_a_masked_key_is_absent_for_every_normalizer() -> None:
    t = qkv()
    weights = scores(t).sigmoid() * causal(5)
    close(one(branch(SIGMOID, CAUSAL), t), weights @ t["v"])
    shorter = {"q": t["q"], "k": t["k"][:, :, :3], "v": t["v"][:, :, :3]}
    for normalizer in (SOFTPLUS, COG, SOFTPICK, LSSAR, STICK, "threshold entmax(1.5)"):
        close(one(branch(normalizer, "mask: kv < 3"), t), one(branch(normalizer), shorter))


def test_affine_scaled_softmax() -> None:
    t = qkv() | {"alpha": torch.rand(2, 2, 5).double(), "beta": torch.rand(2, 2, 5).double()}
    finalize = "alpha[b, h, q] * safe_div(acc, mass) + beta[b, h, q] * vsum"
    body = "input alpha[b, h, q]: float input beta[b, h, q]: float "
    out = one(body + branch(SOFTMAX.replace("safe_div(acc, mass)", finalize), CAUSAL), t)
    weights = scores(t).masked_fill(~causal(5), -torch.inf).softmax(-1)
    close(out, (t["alpha"][..., None] * weights + t["beta"][..., None] * causal(5)) @ t["v"])


def test_chained() -> None:
    t = qkv()
    first = softplus(scores(t)) / softplus(scores(t)).sum(-1, keepdim=True)
    second = (4 * first - 0.25).relu() ** 3
    close(one(branch(LSSAR), t), second / second.sum(-1, keepdim=True) @ t["v"])


def test_sparsemax() -> None:
    t = {"q": torch.tensor([[[[1.0]]]]), "k": torch.tensor([[[[1.0], [0.5], [-1.0]]]]), "v": torch.eye(3)[None, None]}
    close(one(branch("threshold sparsemax(2.0)"), t).squeeze(), torch.tensor([0.75, 0.25, 0.0]).double())


@pytest.mark.parametrize("alpha", [1.25, 1.5, 2.0, 3.0])
def test_entmax_solves_its_equation(alpha: float) -> None:
    t = qkv(6, 6, dv=6)
    t["v"] = torch.eye(6, dtype=torch.float64).expand(2, 2, 6, 6)
    p = one(branch(f"threshold entmax({alpha})", CAUSAL), t)
    s = scores(t)
    close(p.sum(-1), torch.ones(2, 2, 6).double())
    assert bool((p[..., ~causal(6)] == 0).all())
    # On the support p ** (alpha - 1) - (alpha - 1) s is the same for all keys of a row; outside it is no larger.
    tau = torch.where(p > 0, (alpha - 1) * s - p ** (alpha - 1), torch.nan)
    close(tau.nan_to_num(-torch.inf).amax(-1), tau.nan_to_num(torch.inf).amin(-1), 1e-9)


def test_entmax_2_is_sparsemax() -> None:
    t = qkv()
    close(one(branch("threshold entmax(2.0000001)"), t), one(branch("threshold sparsemax(2)"), t), 1e-6)


@pytest.mark.parametrize("direction", ["backward", "forward"])
def test_stick_breaking(direction: str) -> None:
    t = qkv()
    s, out = scores(t), torch.zeros(2, 2, 5, 3).double()
    for i in range(5):
        rest = torch.ones(2, 2).double()
        for j in reversed(range(i)) if direction == "backward" else range(i):
            beta = s[:, :, i, j].sigmoid()
            out[:, :, i] += (beta * rest)[..., None] * t["v"][:, :, j]
            rest = rest * (1 - beta)
    close(one(branch(STICK.replace("backward", direction), "mask: q > kv"), t), out)


def test_differential() -> None:
    t = qkv(heads=4, kv_heads=4)
    t["v"] = t["v"][:, :2]
    views = "q: q(head: 2 * h + {0}) k: k(head: 2 * h + {0})"
    body = f"{branch(rest=views.format(0))} {branch(rest=views.format(1))} combine: affine(1.0, -0.3)"
    weights = scores(t).softmax(-1)
    out = one(body, t)
    assert out.shape == (2, 2, 5, 3)
    close(out, (weights[:, 0::2] - 0.3 * weights[:, 1::2]) @ t["v"])


def test_dual_triangle() -> None:
    t = qkv(d=4, dv=4)
    parts = ("start: 0, stop: d // 2", "start: d // 2, stop: d")
    bodies = [
        branch(rest=f"q: q({part}) k: k({part}) v: v({part}) mask: {mask}")
        for part, mask in zip(parts, ("kv <= q", "kv >= q"), strict=True)
    ]
    lower, upper = ({n: x[..., i : i + 2] for n, x in t.items()} for i in (0, 2))
    expected = [
        scores(lower).masked_fill(~causal(5), -torch.inf).softmax(-1) @ lower["v"],
        scores(upper).masked_fill(~causal(5).mT, -torch.inf).softmax(-1) @ upper["v"],
    ]
    close(one(" ".join(bodies) + " combine: concat", t), torch.cat(expected, -1))


def test_two_dots_selected_by_position() -> None:
    t = qkv()
    dots = "dot { q: q(stop: d // 2) k: k(stop: d // 2) } dot { q: q(start: d // 2) k: k(start: d // 2) }"
    out = one(branch(rest=f"{dots} join: where(kv > q, dot[0], dot[1])"), t)
    halves = [scores({"q": t["q"][..., i : i + 2], "k": t["k"][..., i : i + 2]}) for i in (0, 2)]
    close(out, torch.where(causal(5), halves[1], halves[0]).softmax(-1) @ t["v"])


def test_several_dots_are_summed() -> None:
    t = qkv()
    halves = ("stop: d // 2", "start: d // 2")
    dots = " ".join(f"dot {{ q: q({half}) k: k({half}) scale: 0.5 }}" for half in halves)
    close(one(branch(rest=dots), t), scores(t).softmax(-1) @ t["v"])


def test_sparse_linear() -> None:
    t = qkv(8, 8) | {"w": torch.randn(3, 3).double()}
    read = "route[b, h, q // 2, kv // 4]"
    body = f"""
      input w[?, ?]: float grad
      router route(2, 4) = pooled_topk(0.5, 0.0, smooth_k)
      {branch(rest=f"mask: {read} == 1")}
      {branch(LINEAR, f"q: q(feature: dim_softmax(x)) k: k(feature: dim_softmax(x)) scale: 1.0 mask: {read} != 1")}
      combine: project(none, w)
    """
    pooled = t["q"].reshape(2, 2, 4, 2, 4).mean(3) @ t["k"].reshape(2, 2, 2, 4, 4).mean(3).mT
    chosen = torch.zeros_like(pooled).scatter(-1, pooled.argmax(-1, keepdim=True), 1).bool()
    chosen = chosen.repeat_interleave(2, 2).repeat_interleave(4, 3)
    sparse = scores(t).masked_fill(~chosen, -torch.inf).softmax(-1) @ t["v"]
    linear = t["q"].softmax(-1) @ t["k"].softmax(-1).mT * ~chosen
    close(one(body, t), sparse + linear / linear.sum(-1, keepdim=True) @ t["v"] @ t["w"])


def test_router_ties_shares_and_ragged_blocks() -> None:
    t = qkv(3, 7, dv=7, heads=1, kv_heads=1)
    t["k"] = torch.zeros_like(t["k"])
    t["v"] = torch.eye(7, dtype=torch.float64).expand(2, 1, 7, 7)
    score = "score: to_float(route[b, h, q // 2, kv // 2])"
    body = f"router route(2, 2) = pooled_topk(0.1, 0.5) {branch(PLAIN, score)}"
    # Four blocks, all tied: one on top (at least one), half at the bottom, in order of the index.
    close(one(body, t)[0, 0, 0], torch.tensor([1, 1, 0, 0, -1, -1, -1]).double())


def test_given_classes() -> None:
    t = qkv(4, 4) | {"table": torch.tensor([[1, -1], [0, 1]]).reshape(1, 1, 2, 2)}
    body = "input table[?, ?, ?, ?]: int router r(2, 2) = given(table) "
    out = one(body + branch(rest="mask: r[b, h, q // 2, kv // 2] == 1"), t)
    block = torch.eye(2).repeat_interleave(2, 0).repeat_interleave(2, 1).bool()
    close(out, scores(t).masked_fill(~block, -torch.inf).softmax(-1) @ t["v"])


@pytest.mark.parametrize("normalizer", [SOFTMAX, SIGMOID, SOFTPLUS, COG, LSSAR, "threshold sparsemax(2)"])
def test_key_sets_share_the_normalizer(normalizer: str) -> None:
    t, extra = qkv(5, 5), qkv(5, 3)
    body = f"""
      input more_k[b, h, ?, ?]: float  input more_v[b, h, ?, ?]: float
      branch {{ mask: kv < 4  keys {{ k: more_k v: more_v }} normalizer: {normalizer} }}
    """
    joined = {n: torch.cat([t[n][:, :, :4], extra[n]], 2) for n in ("k", "v")} | {"q": t["q"]}
    out = one(body, t | {"more_k": extra["k"], "more_v": extra["v"]})
    close(out, one(branch(normalizer), joined))


def test_decay_is_gated_linear_attention() -> None:
    t = qkv() | {"g": -torch.rand(2, 2, 5).double(), "gates": -torch.rand(2, 2, 5, 4).double()}
    for name, axes in (("g", "b, h, kv"), ("gates", "b, h, kv, ?")):
        state, rows = torch.zeros(2, 2, 4, 3).double(), []
        for i in range(5):
            keep = t[name][:, :, i].exp()
            state = state * (keep[..., None] if name == "gates" else keep[..., None, None])
            state = state + t["k"][:, :, i, :, None] * t["v"][:, :, i, None]
            rows.append((t["q"][:, :, i, None] @ state).squeeze(-2))
        given = {n: t[n] for n in ("q", "k", "v", name)}
        out = one(f"input {name}[{axes}]: float grad {branch(PLAIN, f'scale: 1.0 decay: {name}')}", given)
        close(out, torch.stack(rows, 2))


def test_feature_maps() -> None:
    t = qkv()
    feature = "feature: where(x > 0.0, x + 1.0, exp(x))"
    out = one(branch(LINEAR, f"q: q({feature}) k: k({feature}) scale: 1.0"), t)
    weights = (elu(t["q"]) + 1) @ (elu(t["k"]) + 1).mT
    close(out, weights / weights.sum(-1, keepdim=True) @ t["v"])


def test_weight_comes_after_the_mass() -> None:
    t = qkv()
    out = one(branch(rest="weight: where(uniform(7) < 0.5, 2.0, 0.0)"), t)
    keep = one(branch(PLAIN, "score: where(uniform(7) < 0.5, 2.0, 0.0)"), {**t, "v": torch.eye(5).expand(2, 2, 5, 5)})
    close(out, scores(t).softmax(-1) * keep @ t["v"])
    assert set(keep.unique().tolist()) == {0.0, 2.0}


def test_scores_with_inputs_and_sizes() -> None:
    t = qkv() | {"slopes": torch.tensor([0.5, 0.25]), "cap": torch.tensor(3.0)}
    score = "cap * tanh(score / cap) - slopes[h] * to_float(q - kv) + log(to_float(n_visible))"
    out = one(f"input slopes[h]: float input cap: float {branch(SIGMOID, f'{CAUSAL} score: {score}')}", t)
    i = torch.arange(5)
    bias = t["slopes"].reshape(2, 1, 1) * (i[:, None] - i)
    s = 3 * (scores(t) / 3).tanh() - bias + (i[:, None] + 1.0).log()
    close(out, s.sigmoid() * causal(5) @ t["v"], 1e-6)


def test_grid_coordinates() -> None:
    t = qkv(6, 6)
    out = one(branch(rest="mask: (abs(q[0] - kv[0]) <= 1) and (q[1] == kv[1])"), t, "grid(3, 2)")
    y, x = torch.arange(6) // 2, torch.arange(6) % 2
    mask = ((y[:, None] - y).abs() <= 1) & (x[:, None] == x)
    close(out, scores(t).masked_fill(~mask, -torch.inf).softmax(-1) @ t["v"])


def test_segments() -> None:
    t = {n: x[:1] for n, x in qkv(5, 6).items()}
    t |= {"cq": torch.tensor([0, 2, 2, 5]), "ck": torch.tensor([0, 3, 4, 6]), "gate": torch.rand(2, 5).double()}
    body = "input cq[?]: int input ck[?]: int input gate[h, q]: float "
    rest = "mask: kv - q <= n_k - n_q"
    out, lse = run(body + branch(rest=rest) + "combine: affine(gate[h, q])", t, "segments(cq, ck)", lse=True)
    assert (out.shape, lse.shape) == ((1, 2, 5, 3), (1, 2, 5))
    for (a, b), (c, d) in (((0, 2), (0, 3)), ((2, 5), (4, 6))):
        part = {"q": t["q"][:, :, a:b], "k": t["k"][:, :, c:d], "v": t["v"][:, :, c:d]}
        close(out[:, :, a:b], one(branch(rest=rest), part) * t["gate"][None, :, a:b, None])


def test_pages() -> None:
    t, lengths = qkv(1, 6), torch.tensor([5, 3])
    dense = one("input n[b]: int " + branch(rest="mask: kv < n[b]"), t | {"n": lengths})
    order = torch.tensor([[4, 0, 2], [1, 5, 3]])
    pools = {n: torch.zeros(6, 2, 2, t[n].shape[-1]).double() for n in ("k", "v")}
    for b in range(2):
        for i in range(3):
            for name, pool in pools.items():
                pool[order[b, i]] = t[name][b, :, 2 * i : 2 * i + 2]
    order[1, 2] = -1  # past the length: never read
    body = "input table[b, ?]: int input n[b]: int " + branch(rest="mask: kv < n_k")
    close(one(body, {"q": t["q"], **pools, "table": order, "n": lengths}, "paged(2, table, n)"), dense)


@given(specs())
@settings(PATIENT, max_examples=40)
def test_any_legal_spec_runs(spec: Spec) -> None:
    out = reference(spec, tensors_for(spec))
    assert out.dtype == torch.float64
    assert out.dim() == 4


def test_empty_tensors() -> None:
    for n_q, n_k in ((0, 4), (3, 0), (0, 0)):
        for normalizer in (SOFTMAX, SIGMOID, LSSAR, STICK, "threshold sparsemax(2)"):
            out = one(branch(normalizer), qkv(n_q, n_k))
            assert out.shape == (2, 2, n_q, 3)
            assert not out.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.zeros(2, 5, 4)}, "q: got rank 3 (shape (2, 5, 4)); 4 dimensions are needed"),
        ({"k": torch.zeros(2, 2, 5, 3)}, "k: a view has width 3, but that of q has 4"),
        ({"k": torch.zeros(3, 2, 5, 4)}, "q: got batch 2; 3 or 1 is needed"),
        ({"v": torch.zeros(2, 2, 6, 3)}, "v: got 6 keys, but k has 5"),
        (
            {"k": torch.zeros(2, 3, 5, 4), "v": torch.zeros(2, 3, 5, 3)},
            "k: got 3 heads, which do not divide the 2 heads",
        ),
        ({"slops": torch.zeros(2)}, "slops: not an input of this spec; did you mean 'slopes'?"),
        ({"slopes": torch.zeros(3)}, "slopes: got size 3 in dimension 0 ('h'); 2 or 1 is needed"),
    ],
)
def test_tensors_that_do_not_fit(change: dict[str, Tensor], message: str) -> None:
    with pytest.raises(InputError) as error:
        one(
            "input slopes[h]: float " + branch(rest="score: score * slopes[h]"),
            qkv() | {"slopes": torch.ones(2)} | change,
        )
    assert error.value.message.startswith(message)


def test_missing_inputs_and_lse() -> None:
    with pytest.raises(InputError, match="v: missing; this spec needs q, k, v"):
        one(branch(), {n: x for n, x in qkv().items() if n != "v"})
    with pytest.raises(InputError, match="return_lse: normalizer 'sigmoid' has no log-sum-exp"):
        run(branch(SIGMOID), qkv(), lse=True)


def test_an_index_out_of_range_is_refused_where_the_mask_holds() -> None:
    t = qkv() | {"table": torch.zeros(5)}
    body = "input table[?]: float "
    one(body + branch(rest=f"{CAUSAL} score: score + table[q - kv]"), t)
    with pytest.raises(BoundsError, match="index 0 of 'table', `q - kv`, takes values -4 to 4"):
        one(body + branch(rest="score: score + table[q - kv]"), t)
