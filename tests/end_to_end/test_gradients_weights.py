"""Weights in the backward: dropout draws the forward's numbers again; learned weights have gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, normalizers, weights
from attngen.ir.philox import uniform
from tests.end_to_end.gradients import check_gradients
from tests.end_to_end.oracle import kernel_of, operands, random

pytestmark = pytest.mark.cxx


def pattern(seed: int, p: float, b: int, h: int, n_q: int, n_k: int) -> Tensor:
    """Which pairs dropout keeps, by the reference's random numbers."""
    at = (torch.arange(size) for size in (b, h, n_q, n_k))
    bs, hs, qs, ks = at
    return uniform(torch.tensor(seed), bs[:, None, None, None], hs[:, None, None], qs[:, None], ks) >= p


def patterns(kernel: attngen.Kernel, b: int, h: int, n_q: int, n_k: int) -> tuple[Tensor, Tensor]:
    """The weights that the forward took, and those that the backward took.

    Uniform scores: the result of values that are the identity is the matrix of weights, and so is the gradient of the
    values for cotangents that are the identity. Some columns at a time, so that one kernel serves all lengths.
    """
    q, k = torch.zeros(b, h, n_q, 4), torch.zeros(b, h, n_k, 4)
    taken = [kernel(q, k, part.expand(b, h, n_k, COLUMNS)) for part in columns_of_identity(n_k)]
    v = torch.zeros(b, h, n_k, COLUMNS, requires_grad=True)
    out = kernel(q, k, v)
    parts = [part.expand(b, h, n_q, COLUMNS) for part in columns_of_identity(n_q)]
    given = [torch.autograd.grad(out, v, part, retain_graph=True)[0] for part in parts]
    return torch.cat(taken, -1)[..., :n_k], torch.cat(given, -1)[..., :n_q].mT


COLUMNS = 16


def columns_of_identity(n: int) -> tuple[Tensor, ...]:
    """The identity of n rows, with columns of zeros at its end, in parts of equal width."""
    return torch.nn.functional.pad(torch.eye(n), (0, -n % COLUMNS)).split(COLUMNS, 1)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


SEED = torch.tensor([7])
DROPOUT = attngen.Spec(weight=weights.dropout(0.3, seed=SEED))


@pytest.mark.parametrize("lengths", [(1, 1), (64, 64), (97, 200), (333, 51)], ids=str)
@pytest.mark.parametrize("seed", [0, 2**33 + 5, 2**63 - 1])
def test_dropout_is_the_same_in_both_directions(seed: int, lengths: tuple[int, int]) -> None:
    SEED.fill_(seed)
    taken, given = patterns(kernel_of(DROPOUT), 2, 3, *lengths)
    torch.testing.assert_close(taken, given, rtol=1e-6, atol=0)
    assert torch.equal(taken != 0, pattern(seed, 0.3, 2, 3, *lengths))


def test_dropout_is_the_same_on_any_number_of_threads(threads: Callable[[int], None]) -> None:
    SEED.fill_(3)
    found = []
    for count in (1, 2, 3, 4):
        threads(count)
        found.append(patterns(kernel_of(DROPOUT), 1, 2, 600, 130)[1])
    assert all(torch.equal(one, found[0]) for one in found)


def test_dropout_is_the_same_on_any_tiling() -> None:
    # A part of a longer sequence is tiled otherwise, and cut into other strips.
    SEED.fill_(11)
    whole = pattern(11, 0.3, 1, 2, 700, 150)
    for n_q, n_k in [(700, 150), (300, 150), (7, 150), (300, 97)]:
        given = patterns(kernel_of(DROPOUT), 1, 2, n_q, n_k)[1]
        assert torch.equal(given != 0, whole[:, :, :n_q, :n_k])


def test_statistics_of_dropout() -> None:
    n, p = 400, 0.3
    SEED.fill_(21)
    kept = patterns(kernel_of(DROPOUT), 2, 4, n, n)[1] * n
    total = 2 * 4 * n * n
    assert abs(float(kept.double().mean()) - 1) < 5 * (p / (1 - p) / total) ** 0.5
    assert abs(float(kept.double().var()) - p / (1 - p)) < 5e-3
    assert set(kept[kept != 0].double().round(decimals=4).unique().tolist()) == {round(1 / (1 - p), 4)}
    # Rows, columns, heads and neighbours know nothing of each other.
    noise = (kept != 0).double() - (1 - p)
    deviation = (p * (1 - p)) ** 0.5
    for axis in range(4):
        means = noise.mean([a for a in range(4) if a != axis])
        assert float(means.abs().max()) < 5 * deviation / (total / noise.shape[axis]) ** 0.5
        pairs = noise * noise.roll(1, axis)
        assert abs(float(pairs.mean())) < 5 * deviation**2 / total**0.5


def test_another_seed_is_another_pattern() -> None:
    found = []
    for seed in (1, 2, 2**32 + 1):
        SEED.fill_(seed)
        found.append(patterns(kernel_of(DROPOUT), 1, 1, 200, 200)[1] != 0)
    for i in range(3):
        agree = (found[i] == found[(i + 1) % 3]).double().mean()
        assert abs(float(agree) - (0.7**2 + 0.3**2)) < 0.02


def test_gradients_through_dropout() -> None:
    sink = random(4).requires_grad_()
    spec = attngen.Spec(
        mask=masks.sliding_window(40),
        weight=weights.dropout(0.25, seed=11),
        normalizer=normalizers.softmax(sink=sink),
    )
    kernel = kernel_of(spec)
    for n_q, n_k in [(130, 130), (70, 201), (1, 1)]:
        check_gradients(kernel, *operands(n_q=n_q, n_k=n_k), by={"sink": sink} if n_q > 1 else {}, lse=True)


def test_gradients_through_dropout_without_a_mass() -> None:
    spec = attngen.Spec(normalizer="sigmoid", weight=weights.dropout(0.5, seed=3), mask=lambda q, kv: kv <= q + 5)
    check_gradients(spec, *operands())


def test_everything_dropped() -> None:
    spec = attngen.Spec(weight=weights.dropout(0.999999, seed=3))
    found = check_gradients(spec, *operands(n_q=5))
    assert not any(t.any() for t in found.values())


RULES: dict[str, Callable[[], Any]] = {
    "softmax": normalizers.softmax,
    "affine": lambda: normalizers.affine(0.5, 0.1),
    "stick-breaking": normalizers.stick_breaking,
    "entmax": lambda: normalizers.entmax(1.5),
}


@pytest.mark.parametrize("rule", RULES)
def test_learned_weights(rule: str) -> None:
    n = 91
    decay = random(4).requires_grad_()
    table, pairs = random(4, 2 * n - 1, seed=2).requires_grad_(), random(n, n, seed=3).requires_grad_()

    def weight(h: Any, q: Any, kv: Any) -> Any:
        return torch.exp(-torch.abs(decay[h]) * abs(q - kv)) * table[h, q - kv + n - 1] + pairs[q, kv]

    mask = masks.Mask.of(lambda q, kv: (kv <= q) & (q % 7 != 3))
    spec = attngen.Spec(mask=mask, weight=weight, normalizer=RULES[rule]())
    by = {"decay": decay, "table": table, "pairs": pairs}
    check_gradients(spec, *operands(n_q=n), by=by, lse=rule in ("softmax", "affine"))


def test_weights_of_the_library() -> None:
    sigma, decay = torch.tensor([1.0, 3.0, 9.0, 50.0], requires_grad=True), (-random(4).abs()).requires_grad_()
    weight = weights.gaussian(sigma) * weights.manhattan(decay) * weights.dropout(0.2, seed=1)
    spec = attngen.Spec(weight=weight, space=attngen.Grid((7, 11)))
    check_gradients(spec, *operands(n_q=77), by={"sigma": sigma, "decay": decay}, lse=True)
