"""Gradients of the reference: finite differences, rows without keys, and nothing that leaks from absent keys."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attngen.ir.parse import parse
from attngen.ir.reference import reference
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
    qkv,
    with_sink,
)

# Rows 0 and 3 see nothing, row 1 sees one key.
SOME = "mask: (kv < q) and (q != 3)"
NORMALIZERS = {
    "softmax": SOFTMAX,
    "adjusted": SOFTMAX.replace("anchor: s", "anchor: s offset: 0.5"),
    "not invariant": """streaming odd {
      phi: exp(s - m)  psi: exp(0.5 * s - m)  anchor: s  finalize: safe_div(acc, mass) + m
    }""",
    "softmax1": with_sink("0.0"),
    "sigmoid": SIGMOID,
    "relu2": SQUARED_RELU,
    "softplus": SOFTPLUS,
    "cog": COG,
    "softpick": SOFTPICK,
    "linear": LINEAR,
    "vsum": SOFTMAX.replace("safe_div(acc, mass)", "0.5 * safe_div(acc, mass) + vsum / count"),
    "lssar": LSSAR,
    "sparsemax": "threshold sparsemax(2)",
    "entmax": "threshold entmax(1.5)",
    "entmax 3": "threshold entmax(3)",
    "stick": STICK,
    "stick forward": STICK.replace("backward", "forward"),
    "none": PLAIN,
    "laplace": "streaming laplace { phi: 0.5 * (1.0 + erf(3.0 * (s - 0.7))) finalize: acc }",
    "relu by count": "streaming relu { phi: relu(s) finalize: acc / maximum(count, 1.0) }",
    "lssar of the visible": LSSAR.replace("4.0 * s", "to_float(n_visible) * s"),
    "entmax 1.2": "threshold entmax(1.2)",
}


def check(body: str, tensors: dict[str, Tensor], space: str = "sequence", lse: bool = False) -> None:
    """Autograd against finite differences, for every float tensor."""
    spec = parse(f"spec test over {space} {{ {body} }}")
    names = [n for n, x in tensors.items() if x.is_floating_point()]
    rest = {n: x for n, x in tensors.items() if n not in names}

    def run(*leaves: Tensor) -> Tensor | tuple[Tensor, ...]:
        given = {**rest, **dict(zip(names, leaves, strict=True))}
        if not lse:
            return reference(spec, given)
        out, found = reference(spec, given, return_lse=True)
        return out, torch.where(found == -torch.inf, 0.0, found)

    leaves = [tensors[n].double().requires_grad_() for n in names]
    assert torch.autograd.gradcheck(run, leaves, eps=1e-6, atol=1e-6, rtol=1e-4)


def small(n_q: int = 4, n_k: int = 3, **sizes: int) -> dict[str, Tensor]:
    return {n: x[:1] for n, x in qkv(n_q, n_k, **{"heads": 1, "kv_heads": 1, "d": 2, "dv": 2, **sizes}).items()}


@pytest.mark.parametrize("name", NORMALIZERS)
def test_finite_differences(name: str) -> None:
    check(branch(NORMALIZERS[name], SOME), small())


def test_finite_differences_of_the_log_sum_exp() -> None:
    check(branch(SOFTMAX, SOME), small(), lse=True)
    sinks = {"sinks": torch.tensor([0.5])}
    check("input sinks[h]: float grad " + branch(with_sink("sinks[h]"), SOME), small() | sinks, lse=True)


def test_finite_differences_of_every_log_sum_exp() -> None:
    check(branch(COG, SOME), small(), lse=True)
    check(branch(NORMALIZERS["adjusted"], SOME), small(), lse=True)
    tensors = small() | {"lift": torch.tensor([0.7]), "sinks": torch.rand(1, 4)}
    inputs = "input lift[h]: float grad input sinks[h, q]: float grad "
    own = with_sink("sinks[h, q]").replace("psi: exp(s - m)", "psi: (1.0 + lift[h] ** 2) * exp(s - m)")
    check(inputs + branch(own.replace("m + log(mass)", "m + log(mass) * lift[h]"), SOME), tensors, lse=True)


def test_finite_differences_of_tensors_of_a_normalizer() -> None:
    tensors = small() | {"gain": torch.rand(1, 1, 4), "shift": torch.rand(1)}
    inputs = "input gain[b, h, q]: float grad input shift[h]: float grad "
    affine = SOFTMAX.replace("safe_div(acc, mass)", "gain[b, h, q] * safe_div(acc, mass) + shift[h] * vsum")
    check(inputs + branch(affine, SOME), tensors, lse=True)
    sigmoid = "streaming sigmoid { phi: sigmoid(s + shift[h]) finalize: tanh(acc * gain[b, h, q]) }"
    check(inputs + branch(sigmoid, SOME), tensors)
    stick = "ordered stick { direction: backward weight: sigmoid(s * shift[h]) log_keep: -gain[b, h, q] * softplus(s) }"
    check(inputs + branch(stick, SOME), tensors)


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "softmax1", "lssar", "entmax", "stick"])
def test_finite_differences_of_weights(name: str) -> None:
    weight = "weight: keep[b, h, q, kv] * exp(-abs(slope[h]) * abs(q - kv)) + where(uniform(7) >= 0.3, 2.0, 0.0)"
    tensors = small() | {"keep": torch.rand(1, 1, 4, 3), "slope": torch.tensor([0.4])}
    inputs = "input keep[b, h, q, kv]: float grad input slope[h]: float grad "
    check(inputs + branch(NORMALIZERS[name], f"{SOME} {weight}"), tensors)


def test_finite_differences_of_inputs() -> None:
    score = "score * table[q - kv] + table[q]"
    t = small(4, 4) | {"table": torch.rand(4), "gate": torch.rand(1, 4), "keep": torch.rand(1, 1, 4, 4)}
    body = f"""
      input table[?]: float grad  input gate[h, q]: float grad  input keep[b, h, q, kv]: float grad
      {branch(SIGMOID, f"mask: kv <= q score: {score} weight: keep[b, h, q, kv] scale: gate[h, q]")}
      combine: affine(sigmoid(gate[h, q]))
    """
    check(body, t)


def test_finite_differences_of_decay_keys_and_projection() -> None:
    t = small(3, 3) | {"g": -torch.rand(1, 1, 3, 2), "mk": torch.rand(1, 1, 2, 2), "mv": torch.rand(1, 1, 2, 2)}
    t["w"] = torch.rand(2, 3)
    body = f"""
      input g[b, h, kv, ?]: float grad  input mk[b, h, ?, ?]: float grad  input mv[b, h, ?, ?]: float grad
      input w[?, ?]: float grad
      branch {{ decay: g keys {{ k: mk(feature: exp(x)) v: mv }} normalizer: {SIGMOID} }}
      combine: project(w)
    """
    check(body, t)


def test_finite_differences_of_segments_and_pages() -> None:
    offsets = {"cq": torch.tensor([0, 1, 4]), "ck": torch.tensor([0, 2, 3])}
    check("input cq[?]: int input ck[?]: int " + branch(), small() | offsets, "segments(cq, ck)")
    t = small(2, 2)
    t["k"], t["v"] = torch.rand(2, 1, 2, 2), torch.rand(2, 1, 2, 2)
    t |= {"table": torch.tensor([[1, 0]]), "n": torch.tensor([3])}
    check("input table[b, ?]: int input n[b]: int " + branch(), t, "paged(2, table, n)")


def gradients(body: str, tensors: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The result, and the gradients of the sum of its squares."""
    leaves = {n: x.clone().requires_grad_() for n, x in tensors.items()}
    out = reference(parse(f"spec test over sequence {{ {body} }}"), leaves)
    (out**2).sum().backward()
    return out.detach(), {n: torch.zeros_like(x) if x.grad is None else x.grad for n, x in leaves.items()}


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_nothing_leaks_from_absent_keys(name: str, poison: float) -> None:
    body = "input bias[q, kv]: float grad " + branch(
        NORMALIZERS[name], "k: k(feature: exp(x)) mask: (kv < q) and (q != 3) score: score + log(exp(bias[q, kv]))"
    )
    clean = qkv(4, 5) | {"bias": torch.rand(4, 5).double()}
    dirty = {n: x.clone() for n, x in clean.items()}
    dirty["k"][:, :, 2:] = poison  # absent for every row
    dirty["v"][:, :, 1] = poison  # present in row 2 only
    dirty["bias"][torch.ones(4, 5).triu().bool()] = poison
    clean["v"][:, :, 1] = 0.0
    out, grads = gradients(body, dirty)
    expected, others = gradients(body, clean)
    keep = [0, 1, 3]
    close(out[:, :, keep], expected[:, :, keep])
    assert not out[:, :, [0, 3]].any()
    assert not grads["q"][:, :, [0, 3]].any()
    assert not grads["k"][:, :, 2:].any()
    assert not grads["v"][:, :, 2:].any()
    assert not grads["bias"][torch.ones(4, 5).triu().bool()].any()
    close(grads["q"][:, :, 1], others["q"][:, :, 1])


def test_nothing_leaks_from_rows_without_keys() -> None:
    dirty = qkv(4, 3)
    dirty["q"][:, :, [0, 3]] = float("nan")
    out, grads = gradients(branch(SOFTMAX, SOME), dirty)
    assert bool(torch.isfinite(out).all())
    assert all(bool(torch.isfinite(g).all()) for g in grads.values())


def test_a_score_of_minus_infinity_is_absent() -> None:
    t = qkv(4, 5) | {"bias": torch.zeros(5).double()}
    t["bias"][2:] = -torch.inf
    counting = SOFTMAX.replace("safe_div(acc, mass)", "acc / mass + count + vsum")
    for normalizer in (*NORMALIZERS.values(), counting):
        body = "input bias[kv]: float grad " + branch(normalizer, "score: score + bias[kv]")
        out, grads = gradients(body, t)
        shorter = {"q": t["q"], "k": t["k"][:, :, :2], "v": t["v"][:, :, :2], "bias": t["bias"][:2]}
        if "n_k" in normalizer or "n_visible" in normalizer:
            continue
        expected, others = gradients(body, shorter)
        close(out, expected)
        close(grads["q"], others["q"])
        assert not grads["k"][:, :, 2:].any()
        assert not grads["bias"][2:].any()


def test_a_row_without_keys_gives_zero_and_minus_infinity() -> None:
    t = qkv(4, 3)
    spec = parse(f"spec test over sequence {{ {branch(SOFTMAX.replace('safe_div(acc, mass)', 'acc / mass'), SOME)} }}")
    out, lse = reference(spec, t, return_lse=True)
    assert not out[:, :, [0, 3]].any()
    assert bool((lse[:, :, [0, 3]] == -torch.inf).all())
    sink = parse(f"spec test over sequence {{ {branch(with_sink('0.25'), SOME)} }}")
    out, lse = reference(sink, t, return_lse=True)
    assert not out[:, :, [0, 3]].any()
    close(lse[:, :, [0, 3]], torch.full((2, 2, 2), 0.25).double())


def test_a_sink_of_minus_infinity_is_absent() -> None:
    t = qkv(4, 3)
    plain = parse(f"spec test over sequence {{ {branch(SOFTMAX, SOME)} }}")
    sink = parse(f"spec test over sequence {{ {branch(with_sink('-inf'), SOME)} }}")
    for one, other in zip(reference(plain, t, True), reference(sink, t, True), strict=True):
        close(one, other)


def test_large_scores_do_not_overflow() -> None:
    t = qkv()
    t["q"] = t["q"] * 1e6
    for name in ("softmax", "softmax1", "cog", "softpick", "sparsemax", "entmax", "stick"):
        out, grads = gradients(branch(NORMALIZERS[name]), t)
        assert bool(torch.isfinite(out).all()), name
        assert all(bool(torch.isfinite(g).all()) for g in grads.values()), name


def test_gradients_reach_leaves_of_other_dtypes() -> None:
    t = {n: x.to(torch.bfloat16).requires_grad_() for n, x in qkv().items()}
    out = reference(parse(f"spec test over sequence {{ {branch()} }}"), t)
    out.sum().backward()
    assert out.dtype == torch.float64
    assert all(x.grad is not None and x.grad.dtype == torch.bfloat16 for x in t.values())
