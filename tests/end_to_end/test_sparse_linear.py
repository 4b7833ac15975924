"""Sparse-linear attention beside the reference and beside a dense formula, values and gradients.

A kernel serves all lengths and tables, so few specs meet many calls.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen.ir.nodes import Input, Project
from tests.end_to_end.gradients import check_gradients, compare, leaf, run
from tests.end_to_end.oracle import BACKEND, BOUND, check, error, kernel_of, operands, random
from tests.end_to_end.sparse_linear import DV, KB, QB, D, dense, spec_of, spread, table_of

pytestmark = pytest.mark.cxx

# --- values and gradients ---------------------------------------------------------------------------------------------

SPECS: dict[str, dict[str, Any]] = {
    "marginal": {"domain": "marginal", "feature": "softmax"},
    "complement": {"domain": "complement", "feature": "relu", "eps": 0.1},
    "all": {"domain": "all", "feature": "elu", "eps": 1e-5, "projection": False},
    "expression": {"domain": "marginal", "feature": "squared"},
}


def inputs_of(name: str, table: Tensor) -> dict[str, Any]:
    projected = SPECS[name].get("projection", True)
    return {"block_classes": table, **({"projection": random(DV, DV)} if projected else {})}


def beside_the_formula(name: str, q: Tensor, k: Tensor, v: Tensor, inputs: dict[str, Any]) -> None:
    """The kernel, the reference and the dense formula agree in results and in every gradient."""
    kernel = kernel_of(spec_of(**SPECS[name]))
    # Of one key the gradients by q and k are what eps leaves of a difference of equal numbers.
    lone = k.shape[2] == 1 and "eps" in SPECS[name]
    found = check_gradients(kernel, q, k, v, bounds=dict.fromkeys("qk", 1.0) if lone else None, **inputs)
    by = {name: leaf(t) for name, t in zip("qkv", (q, k, v), strict=True)}
    weight = leaf(inputs["projection"]) if "projection" in inputs else None
    classes = spread(inputs["block_classes"], q.shape[2], k.shape[2])
    options = {option: value for option, value in SPECS[name].items() if option != "projection"}

    def formula(q: Tensor, k: Tensor, v: Tensor, return_lse: bool) -> Tensor:
        return dense(q, k, v, classes, projection=weight, **options)

    leaves = [*by.values()] + ([] if weight is None else [weight])
    (exact,), gradients = run(formula, [*by.values()], leaves)
    assert error(kernel(q, k, v, **inputs), exact) <= 1e-5
    for (name, one), gradient in zip(found.items(), gradients, strict=True):
        compare(name, one, gradient, 1.0 if lone and name in "qk" else 1e-5)


LENGTHS = [(100, 130), (1, 1), (49, 200), (70, 39), (23, 1)]
"""Of queries and keys; blocks are whole in none."""


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(("n_q", "n_k"), LENGTHS)
def test_a_table_of_the_call(name: str, n_q: int, n_k: int) -> None:
    table = table_of(2, 4, n_q, n_k)
    beside_the_formula(name, *operands(n_q=n_q, n_k=n_k, d=D, dv=DV), inputs_of(name, table))


@pytest.mark.parametrize(("b", "h"), [(1, 1), (2, 1), (1, 4)])
def test_batches_and_heads_share_a_table(b: int, h: int) -> None:
    table = table_of(b, h, 100, 130)
    beside_the_formula("marginal", *operands(n_q=100, n_k=130, d=D, dv=DV), inputs_of("marginal", table))


@pytest.mark.parametrize("name", ["marginal", "complement", "all"])
@pytest.mark.parametrize("only", [-1, 0, 1])
def test_rows_of_blocks_of_one_class(name: str, only: int) -> None:
    """No critical block, no linear one, or neither: a branch without keys adds 0."""
    table = table_of(1, 4, 100, 130)
    table[:, :, 1] = only
    table[:, 3] = only
    beside_the_formula(name, *operands(n_q=100, n_k=130, d=D, dv=DV), inputs_of(name, table))


def test_a_row_of_negligible_blocks_is_zero() -> None:
    table = table_of(1, 1, 100, 130)
    table[:, :, 2] = -1
    out = check(spec_of(), *operands(n_q=100, n_k=130, d=D, dv=DV), **inputs_of("marginal", table))
    assert not out[:, :, 2 * QB : 3 * QB].any()


@pytest.mark.parametrize(("h", "hk"), [(4, 4), (4, 1), (6, 2), (3, 3), (1, 1)])
def test_heads(h: int, hk: int) -> None:
    table = table_of(1, h, 75, 75)
    q, k, v = operands(h=h, hk=hk, n_q=75, d=D, dv=DV)
    beside_the_formula("marginal", q, k, v, inputs_of("marginal", table))


@pytest.mark.parametrize("size", [0.0, 1e-3, 30.0])
def test_sizes_of_features(size: float) -> None:
    """At 0 the masses of relu are 0, so that eps alone divides; large softmax features leave most masses empty."""
    for name in ("marginal", "complement"):
        q, k, v = operands(n_q=100, n_k=130, d=D, dv=DV)
        inputs = inputs_of(name, table_of(1, 1, 100, 130, high=0))
        check(spec_of(**SPECS[name]), q * size, k * size, v, **inputs)


def both_projected() -> attngen.Spec:
    """Each branch with a projection of its own; blocks of one query and three keys."""
    made = spec_of(query_block=1, key_block=3).ir
    weights = (Input(name, ("?", "?"), grad=True) for name in ("first", "second"))
    inputs = (*(i for i in made.inputs if i.name != "projection"), *weights)
    return attngen.Spec.from_ir(replace(made, inputs=inputs, combine=Project(("first", "second"))))


def test_both_branches_are_projected() -> None:
    table = table_of(1, 4, 60, 130, qb=1, kb=3).long()
    q, k, v = operands(n_q=60, n_k=130, d=D, dv=DV)
    weights: dict[str, Any] = {"first": random(DV, 5), "second": random(DV, 5, seed=2)}
    check_gradients(both_projected(), q, k, v, block_classes=table, **weights)
    table[..., 7] = -1
    clean = check_gradients(both_projected(), q, k, v, block_classes=table, **weights)
    for t in (k, v):
        t[:, :, 21:24] = float("nan")
    found = check_gradients(both_projected(), q, k, v, block_classes=table, **weights)
    assert all(error(found[name], clean[name].double()) <= 1e-6 for name in found)


# --- the router's own ranking -----------------------------------------------------------------------------------------


def ranked(q: Tensor, k: Tensor, topk: float, bottom: float, smooth_k: bool) -> Tensor:
    """The classes of every pair, by a sort of the dot products of means."""
    q, k = q.double(), k.double().repeat_interleave(q.shape[1] // k.shape[1], 1)
    centred = k - k.mean(2, keepdim=True) if smooth_k else k
    queries, keys = (
        torch.stack([part.mean(2) for part in torch.split(t, block, 2)], 2) for t, block in ((q, QB), (centred, KB))
    )
    rank = (queries @ keys.mT).sort(dim=-1, descending=True, stable=True).indices.argsort(-1)
    blocks = rank.shape[-1]
    top, low = max(1, int(topk * blocks)), int(bottom * blocks)
    table = (rank < top).long() - (rank >= blocks - low).long()
    return spread(table, q.shape[2], k.shape[2])


@pytest.mark.parametrize(
    ("topk", "bottom", "smooth_k"), [(0.3, 0.4, True), (0.3, 0.4, False), (1e-9, 0.0, True), (1.0, 0.0, True)]
)
def test_ranking(topk: float, bottom: float, smooth_k: bool) -> None:
    spec = spec_of(topk=topk, bottom=bottom, smooth_k=smooth_k)
    weight = random(DV, DV)
    for n_q, n_k in [(100, 330), (49, 200), (23, 41), (1, 1)]:
        q, k, v = operands(n_q=n_q, n_k=n_k, d=D, dv=DV)
        check_gradients(spec, q, k + 3, v, projection=weight)
        out = kernel_of(spec)(q, k + 3, v, projection=weight)
        exact = dense(q, k + 3, v, ranked(q, k + 3, topk, bottom, smooth_k), projection=weight)
        assert error(out, exact) <= 1e-5


# --- dtypes, layouts, strides -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    for n_q, n_k in [(100, 130), (1, 1), (49, 200)]:
        q, k, v = operands(n_q=n_q, n_k=n_k, d=D, dv=DV, dtype=dtype)
        inputs = inputs_of("marginal", table_of(2, 4, n_q, n_k))
        inputs["projection"] = inputs["projection"].to(dtype)
        # A gradient passes three roundings: of what is made, of its own gradient, and its own.
        gradient = 2 * BOUND[dtype]
        check_gradients(spec_of(), q, k, v, bounds=dict.fromkeys(("q", "k", "projection"), gradient), **inputs)


def test_layout_and_strides() -> None:
    q, k, v = operands(n_q=100, n_k=130, d=D, dv=DV)
    inputs = inputs_of("marginal", table_of(1, 4, 100, 130))
    expected = check_gradients(spec_of(), q, k, v, **inputs)
    turned = [t.transpose(1, 2).contiguous() for t in (q, k, v)]
    found = check_gradients(spec_of(), *(t.transpose(1, 2) for t in turned), **inputs)
    assert all(error(found[name], expected[name].double()) <= 1e-6 for name in expected)
    check_gradients(attngen.compile(spec_of(), layout="bnhd", backend=BACKEND), *turned, **inputs)
    weight = random(2 * DV, 3 * DV)[::2, DV : 2 * DV]
    sliced = [random(2, t.shape[1], t.shape[2], 2 * t.shape[3] + 1)[..., 1::2] for t in (q, k, v)]
    check_gradients(spec_of(), *sliced, block_classes=inputs["block_classes"], projection=weight)


# --- what nobody sees -------------------------------------------------------------------------------------------------


NEVER, ONCE = 1, 3
"""A block of keys that no row sees, and one that the first block of queries alone sees."""


def poisoned(t: Tensor, block: int, value: float) -> Tensor:
    changed = t.clone()
    changed[:, :, block * KB : (block + 1) * KB] = value
    return changed


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("seen", [0, 1])
def test_absent_keys_leak_nothing(seen: int, value: float) -> None:
    """`seen`: by which branch the first block of queries sees the block of keys."""
    n_q, n_k = 100, 190
    table = table_of(1, 4, n_q, n_k, low=0)
    table[..., NEVER] = -1
    table[:, :, 1:, ONCE] = -1
    table[:, :, 0, ONCE] = seen
    weight = random(DV, DV)
    q, k, v = operands(n_q=n_q, n_k=n_k, d=D, dv=DV)
    cotangent = random(2, 4, n_q, DV, seed=5)
    cotangent[:, :, :QB] = 0.0

    def results(k: Tensor, v: Tensor) -> list[Tensor]:
        leaves = [leaf(t) for t in (q, k, v, weight)]
        out = kernel_of(spec_of())(*leaves[:3], block_classes=table, projection=leaves[3])
        return [out.detach()[:, :, QB:], *torch.autograd.grad(out, leaves, cotangent)]

    clean = results(k, v)
    for block in (NEVER, ONCE):
        bad = results(poisoned(k, block, value), poisoned(v, block, value))
        assert error(bad[0], clean[0].double()) <= 1e-6
        assert error(bad[1][:, :, QB:], clean[1][:, :, QB:].double()) <= 1e-6
        if block == NEVER:
            assert all(error(one, other.double()) <= 1e-6 for one, other in zip(bad, clean, strict=True))
            assert not any(t[:, :, block * KB : (block + 1) * KB].any() for t in bad[2:4])
