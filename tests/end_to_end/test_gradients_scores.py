"""Gradients of captured tensors: every index class, the same tensor indexed twice, scales, gates and sinks."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

import attngen
from attngen import masks, mechanisms, normalizers, scores
from attngen.errors import InputError
from attngen.ir.expr import const, load, op, sym
from attngen.ir.nodes import Affine, Branch, Input, Spec
from attngen.scores import Score
from tests.end_to_end.gradients import check_gradients
from tests.end_to_end.oracle import kernel_of, operands, random
from tests.end_to_end.test_captures import GROUPS, INDEXED

pytestmark = pytest.mark.cxx
N, H = 130, 4
CAUSAL = masks.causal()


def learned(*shape: int, seed: int = 1, size: float = 1.0) -> Tensor:
    return (size * random(*shape, seed=seed)).requires_grad_()


def chained(*parts: Any) -> Score:
    """One score after the other."""
    found = Score.of(parts[0])
    for part in parts[1:]:
        found = found >> part
    return found


def check(score: Any, by: dict[str, Tensor], mask: Any = CAUSAL, **more: Any) -> None:
    q, k, v = operands(n_q=N)
    check_gradients(attngen.Spec(mask=mask, score=score, **more), q, k, v, by=by, lse=True)


@pytest.mark.parametrize("group", GROUPS)
def test_index_classes(group: str) -> None:
    names = GROUPS[group]
    by = {name: learned(*INDEXED[name][0], seed=i) for i, name in enumerate(names)}
    check(chained(*(INDEXED[name][1](by[name]) for name in names)), by)


def bucket(distance: Any) -> Any:
    """T5's, of both directions: 16 of 32 buckets each, the near half exact, the far half logarithmic."""
    side = torch.where(distance > 0, 16, 0)
    far = torch.clamp(torch.abs(distance), min=1)
    large = 8 + (torch.log(far / 8) / math.log(128 / 8) * 8).long()
    return side + torch.where(torch.abs(distance) < 8, torch.abs(distance), torch.clamp(large, max=15))


def test_scores_of_the_library_and_buckets_of_t5_with_the_head_last() -> None:
    slopes, distances = learned(H, size=0.1), learned(H, 2 * N - 1)
    table, relative = learned(32, H, seed=2), learned(2 * N - 1, H, seed=3)
    score = chained(
        scores.soft_cap(5.0) >> scores.alibi(slopes) >> scores.relative_bias(distances),
        lambda score, h, q, kv: score + table[bucket(kv - q), h],
        lambda score, h, q, kv: score + relative[q - kv + N - 1, h],
    )
    by = {"slopes": slopes, "distances": distances, "table": table, "relative": relative}
    check(score, by, mask=None)


def test_a_table_of_relative_positions_on_a_grid() -> None:
    rows, columns = 10, 13
    table, shared = learned(H, 2 * rows - 1, 2 * columns - 1), learned(2 * rows - 1, seed=2)

    def score(score: Any, h: Any, q: Any, kv: Any) -> Any:
        down, right = q[0] - kv[0] + rows - 1, q[1] - kv[1] + columns - 1
        return score + table[h, down, right] + shared[down]

    check(score, {"table": table, "shared": shared}, mask=None, space=attngen.Grid((rows, columns)))


def test_one_tensor_indexed_many_times() -> None:
    t, pair = learned(N), learned(N, N, seed=2)

    def score(score: Any, q: Any, kv: Any) -> Any:
        return score * t[q] + t[kv] * t[q] + t[0] - t[q - kv] + pair[q, kv] - 0.5 * pair[kv, q] + pair[q, q]

    check(score, {"t": t, "pair": pair})


def test_indices_that_are_looked_up() -> None:
    generator = torch.Generator().manual_seed(0)
    kind, table, pairs = torch.randint(0, 7, (N,), generator=generator), learned(7), learned(7, H, 7, seed=2)

    def score(score: Any, h: Any, q: Any, kv: Any) -> Any:
        return score * table[kind[q]] + table[kind[kv]] + pairs[kind[q], h, kind[kv]]

    check(score, {"table": table, "pairs": pairs})


def test_sums_that_do_not_fit_are_refused() -> None:
    kind, table = torch.zeros(N, dtype=torch.int64), learned(7)
    kernel = kernel_of(attngen.Spec(score=lambda score, q: score + table[kind[q]]))
    check_gradients(kernel, *operands(n_q=N), by={"table": table})
    table = torch.zeros(1).expand((1 << 28) + 1).requires_grad_()
    out = kernel(*operands(n_q=N))
    with pytest.raises(InputError, match=r"table: its gradient needs 1.0 GiB of sums in each thread"):
        out.sum().backward()


def test_biases_of_every_pair() -> None:
    shapes = ((N, N), (H, N, N), (2, 1, N, N), (2, H, N, N))
    by = {f"bias{len(shape)}{shape[0]}": learned(*shape, seed=i) for i, shape in enumerate(shapes)}
    check(chained(*(scores.bias(bias) for bias in by.values())), by)


def test_functions_of_captured_tensors() -> None:
    slopes, shift, angle, gate = learned(H), learned(H, seed=2), learned(N, seed=3), learned(2, H, N, seed=4)
    total = logsigmoid(gate).cumsum(-1)  # the decay of the forgetting transformer

    def score(score: Any, b: Any, h: Any, q: Any, kv: Any) -> Any:
        turned = torch.sigmoid(shift)[h] * torch.sin(angle[kv]) - torch.tanh(angle)[q]
        return score * torch.exp(slopes[h]) + turned + total[b, h, q] - total[b, h, kv]

    check(score, {"slopes": slopes, "shift": shift, "angle": angle, "gate": gate, "total": total})


def test_loads_under_a_condition() -> None:
    ahead, back, few = learned(N), learned(N, seed=2), learned(5, seed=3)

    def score(score: Any, q: Any, kv: Any) -> Any:
        near = torch.where(q >= kv, back[q - kv], ahead[kv - q])
        return score + near + torch.where(q < 5, few[q], 0.0) + torch.where(kv < 5, few[kv], 0.0)

    check(score, {"ahead": ahead, "back": back, "few": few}, mask=None)


def test_rows_beyond_a_guarded_table_write_nowhere() -> None:
    # In a process of its own: what it guards against is a write past the end of the sums.
    program = """
import attngen, torch
from tests.end_to_end.oracle import operands
table = torch.ones(1, 1 << 18, requires_grad=True)
score = lambda score, q, kv: score + torch.where(q < 1, table[q, kv], 0.3)
out = attngen.compile(attngen.Spec(score=score), backend="cpu")(*operands(b=1, h=1, hk=1, n_q=3000, n_k=5, d=8))
out.sum().backward()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("shape", [(H,), (2, H, N)], ids=["head", "row"])
def test_scales(shape: tuple[int, ...]) -> None:
    t = learned(*shape, size=0.5)
    check(None, {"t": t}, scale=t)


def test_functions_as_scales() -> None:
    t, one = learned(H, N, size=0.5), learned(1, seed=2)
    check(None, {"t": t, "one": one}, scale=lambda h, q, d: torch.exp(t[h, q]) * one[0] * torch.log(q + 2.0) / d**0.5)


def test_sinks_of_every_row() -> None:
    sinks, stretch = learned(H, N), learned(H, seed=2)
    rule = normalizers.streaming(
        "sunk",
        phi=lambda s, m: torch.exp(s - m),
        psi=lambda s, m, h: (1 + stretch[h] ** 2) * torch.exp(s - m),
        anchor=lambda s: s,
        sink=lambda h, q: sinks[h, q],
        lse=lambda m, mass: m + torch.log(mass),
    )
    empty = masks.Mask.of(lambda q, kv: (kv <= q) & (q % 3 != 1))
    check(None, {"sinks": sinks, "stretch": stretch}, mask=empty, normalizer=rule)


def test_tensors_of_finalize_and_of_the_log_sum_exp() -> None:
    gain, shift, lift = learned(2, H, N), learned(H, seed=2), learned(H, seed=3)
    rule = normalizers.streaming(
        "gained",
        phi=lambda s, m: torch.exp(s - m),
        psi=lambda s, m: torch.exp(s - m),
        anchor=lambda s: s,
        finalize=lambda acc, mass, vsum, count, b, h, q: (
            torch.tanh(gain[b, h, q] * acc / mass) + shift[h] * vsum / count
        ),
        lse=lambda m, mass, h: m + torch.log(mass) + lift[h] ** 2,
    )
    check(None, {"gain": gain, "shift": shift, "lift": lift}, normalizer=rule)


SOFTMAX = normalizers.softmax().ir
SIGMOID = normalizers.streaming("sigmoid", phi=lambda s: torch.sigmoid(s - 2)).ir
BEFORE, AFTER = op("le", sym("kv"), sym("q")), op("ge", sym("kv"), sym("q"))
ROW = (sym("b"), sym("h"), sym("q"))


def test_gates_of_rows_and_channels() -> None:
    dv = 13
    rows, channels = load("rows", ROW), op("sigmoid", load("channels", (*ROW, sym("dim"))))
    reverse = load("reverse", (op("sub", const(20), sym("dim")), sym("h")))
    combine = Affine((op("mul", rows, channels), op("add", reverse, load("list", (sym("dim"),)))))
    inputs = (
        Input("rows", ("b", "h", "q")),
        Input("channels", ("b", "h", "q", "?")),
        Input("reverse", ("?", "h")),
        Input("list", ("?",)),
    )
    spec = Spec((Branch(SOFTMAX, mask=BEFORE), Branch(SIGMOID, mask=AFTER)), inputs=inputs, combine=combine)
    kernel = kernel_of(spec)
    given = {
        "rows": random(2, H, 70),
        "channels": random(2, H, 70, dv, seed=2),
        "reverse": random(21, H, seed=3),
        "list": random(40, seed=4)[::2],
    }
    check_gradients(kernel, *operands(dv=dv), **given)
    given |= {"rows": random(1, 1, 70), "channels": random(1, H, 70, dv), "reverse": random(21, 1)}
    check_gradients(kernel, *operands(dv=dv), **given)


@pytest.mark.parametrize("shape", [(H,), (2, H, N)], ids=["heads", "rows"])
def test_the_factor_of_differential_attention(shape: tuple[int, ...]) -> None:
    lam = learned(*shape)
    check_gradients(kernel_of(mechanisms.differential(lam)), *operands(n_q=N, d=20, dv=30), by={"lam": lam})


def test_inputs_of_one_batch_or_head_serve_all() -> None:
    gate = Input("gate", ("b", "h", "q"))
    spec = Spec((Branch(SOFTMAX, mask=BEFORE, score=op("mul", sym("score"), load("gate", ROW))),), inputs=(gate,))
    kernel = kernel_of(spec)
    for shape in [(2, H, 70), (1, H, 70), (2, 1, 70), (1, 1, 70)]:
        check_gradients(kernel, *operands(), gate=random(*shape))


STRIDES: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda t: t.T.contiguous().T,
    "sliced": lambda t: t.repeat_interleave(2, 1)[:, ::2],
    "one-row-for-all": lambda t: t[:1].expand(t.shape),
    "one-entry-for-all": lambda t: t[:1, :1].expand(t.shape),
    "one-row-of-three": lambda t: t.repeat_interleave(3, 0)[1::3],
    "one-column-for-all": lambda t: t[:, :1].expand(t.shape),
}


def test_strides_of_captured_tensors() -> None:
    table = random(H, 2 * N - 1)
    kernel = kernel_of(attngen.Spec(score=lambda score, h, q, kv: score + table[h, q - kv + N - 1]))
    for change in STRIDES.values():
        table = change(random(H, 2 * N - 1)).detach().requires_grad_()
        check_gradients(kernel, *operands(n_q=N), by={"table": table}, lse=True)


def test_gradients_have_the_dtype_of_their_tensor() -> None:
    double, brain, half = (learned(H, N, seed=i) for i in range(3))
    double, brain, half = (
        t.detach().to(dtype).requires_grad_()
        for t, dtype in zip((double, brain, half), (torch.float64, torch.bfloat16, torch.float16), strict=True)
    )
    spec = attngen.Spec(score=lambda score, h, q, kv: score * double[h, q] + brain[h, kv] - half[h, q] * half[h, kv])
    by, bounds = {"double": double, "brain": brain, "half": half}, {"brain": 1e-2, "half": 2e-3}
    check_gradients(spec, *operands(n_q=N), by=by, bounds=bounds)


def test_a_tensor_that_only_a_mask_reads_has_no_gradient() -> None:
    limit, gate = learned(N), learned(N, seed=2)
    mask = masks.Mask.of(lambda q, kv: (limit[q] > limit[kv] - 1) & (gate[kv] > -2))
    spec = attngen.Spec(mask=mask, score=lambda score, kv: score + gate[kv])
    found = check_gradients(spec, *operands(n_q=N), by={"gate": gate, "limit": limit})
    assert not found["limit"].any()


def test_scalars_that_require_grad() -> None:
    temperature, lift = torch.tensor(0.5, requires_grad=True), torch.tensor(-0.3, requires_grad=True)
    rule = normalizers.sigmoid(lift)
    spec = attngen.Spec(score=lambda score: score * temperature, normalizer=rule, scale=temperature)
    check_gradients(spec, *operands(n_q=N), by={"temperature": temperature, "lift": lift})
