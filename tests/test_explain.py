"""What `kernel.explain` says, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import attngen
from attngen import masks, normalizers, scores
from attngen.codegen.backends.cpu import compiler, isa
from attngen.codegen.backends.cpu.config import CpuConfig, default
from attngen.codegen.plan import make_plan
from attngen.explain import Explanation

HAS_COMPILER = not isinstance(compiler.find(), compiler.NoCompiler)
cxx = pytest.mark.skipif(not HAS_COMPILER, reason="no C++ compiler")


def explained(spec: attngen.Spec, n_q: int, n_k: int, heads: int = 2, backend: str | None = None) -> Explanation:
    q, k = torch.randn(1, heads, n_q, 8), torch.randn(1, heads, n_k, 8)
    found = attngen.compile(spec, backend=backend).explain(q, k, k)
    assert isinstance(found, Explanation)
    return found


def chosen(spec: attngen.Spec, n: int = 8) -> CpuConfig:
    """The tiles of the CPU kernel."""
    q = torch.randn(1, 2, n, 8)
    kernel = attngen.compile(spec)
    tensors, _, _ = kernel._values({})
    return default(isa.choose(), make_plan(kernel.spec.ir, kernel.engine().problem(q, q, q, tensors, False)))


def brute(seen: np.ndarray, tile: tuple[int, int]) -> tuple[int, int, int]:
    """All, visited and full tiles."""
    q, k = np.arange(0, seen.shape[0], tile[0]), np.arange(0, seen.shape[1], tile[1])
    some = np.logical_or.reduceat(np.logical_or.reduceat(seen, q, 0), k, 1)
    every = np.logical_and.reduceat(np.logical_and.reduceat(seen, q, 0), k, 1)
    return some.size, int(some.sum()), int(every.sum())


@cxx
@pytest.mark.parametrize(("n_q", "n_k", "window"), [(500, 500, 60), (1000, 1300, 400), (333, 333, 1)])
def test_tiles_and_pairs_equal_brute_force(n_q: int, n_k: int, window: int) -> None:
    (facts,) = explained(attngen.Spec(mask=masks.sliding_window(window)), n_q, n_k).keysets
    at = np.arange(n_q)[:, None] + n_k - n_q
    kv = np.arange(n_k)
    seen = (kv <= at) & (kv > at - window)
    config = chosen(attngen.Spec(mask=masks.sliding_window(window)))
    assert facts.tile == (config.query_tile, config.key_tile)
    assert facts.tiles is not None
    assert (facts.tiles.tiles, facts.tiles.visited, facts.tiles.full) == tuple(2 * n for n in brute(seen, facts.tile))
    assert facts.pairs == (2 * seen.sum(), 2 * seen.sum())
    assert facts.row_keys == (seen.sum(1).min(), seen.sum(1).max())


def test_work_counts_both_products() -> None:
    found = explained(attngen.Spec(mask=masks.causal()), 10, 10, backend="reference")
    flops = 2 * (8 + 8)
    assert found.work.useful == (2 * 55 * flops, 2 * 55 * flops)
    assert found.work.visited == 2 * 100 * flops
    assert found.work.bytes == 4 * 2 * 10 * 8 * 4
    assert found.work.intensity == pytest.approx(2 * 55 * flops / 2560)


@cxx
def test_the_choice_and_the_others() -> None:
    choice = explained(attngen.Spec(mask=masks.causal()), 8, 8).choice
    others = dict(choice.others)
    assert choice.backend == "cpu"
    assert choice.config == str(chosen(attngen.Spec(mask=masks.causal())))
    assert others["reference"] == "comes after 'cpu', which takes the spec"
    assert others["triton"] == "runs there if it is asked for, under Triton's interpreter"
    decayed = attngen.compile(attngen.mechanisms.linear(mask=~masks.causal(), decay=True))
    q = torch.zeros(1, 1, 8, 4)
    refused = decayed.explain(q, q, q, log_decay=torch.zeros(1, 1, 8)).choice
    assert refused.backend == "reference"
    assert "a decay has a kernel only for" in dict(refused.others)["cpu"]


@pytest.mark.parametrize(
    ("normalizer", "loop", "law"),
    [
        ("softmax", "online: running anchor", "shift law proven, k = 1, in powers of two"),
        ("sigmoid", "sums without an anchor", "no anchor, so no shift law is needed"),
        (normalizers.stick_breaking(), "in order (backward)", "stick_breaking"),
        (normalizers.entmax(1.5), "threshold search", "entmax"),
        (normalizers.lssar(2, 0.5), "2 passes over the keys", "lssar (shift law proven, k = 2, no exponential"),
    ],
)
def test_loop_families(normalizer: object, loop: str, law: str) -> None:
    found = explained(attngen.Spec(normalizer=normalizer), 8, 8, backend="reference")
    assert loop in found.choice.loop
    assert law in found.keysets[0].normalizer


def test_branches_patterns_and_rows() -> None:
    found = explained(attngen.mechanisms.dual_triangle("across_heads"), 200, 200, heads=4, backend="reference")
    assert found.choice.loop.startswith("2 branches, side by side: ")
    assert [facts.title for facts in found.keysets] == ["branch 0", "branch 1"]
    assert found.keysets[0].patterns == "the mask depends on the head; 2 distinct"
    assert found.keysets[0].pairs == (4 * 20100, 4 * 20100)
    assert found.keysets[0].rows.endswith("here 1 to 200 keys")


def test_ids_go_through_a_table() -> None:
    ids = torch.arange(64) // 10
    spec = attngen.Spec(mask=masks.document(ids), score=scores.relative_bias(torch.zeros(2, 127)))
    (facts,) = explained(spec, 64, 64, backend="reference").keysets
    assert facts.form.startswith("block table")
    assert dict(facts.loads)["table"] == "relative: by q - kv, along diagonals"
    assert facts.pairs == (2 * 616, 2 * 616)
    assert facts.visited == ()


def test_the_page_names_ranges_inputs_and_paths() -> None:
    spec = attngen.Spec(mask=masks.causal())
    page = str(explained(spec, 8, 8, backend="reference"))
    assert "  visited   0 <= kv < minimum(n_k, q_last + 1)" in page or "0 <= kv < " in page
    assert "rows        every row sees a key, proven for any lengths; here 1 to 8 keys" in page
    window = 3
    spec = attngen.Spec(mask=lambda q, kv: (q - kv < window) & (kv <= q))
    assert "window: int 3, read through window" in str(
        explained(spec, 8, 8, backend="reference").with_paths(spec.bindings)
    )


def test_rich_prints_the_page_unchanged() -> None:
    from rich.console import Console

    found = explained(attngen.Spec(mask=masks.causal()), 8, 8, backend="reference")
    console = Console(width=400)
    with console.capture() as capture:
        console.print(found)
    assert capture.get().strip() == str(found)


def test_empty_calls() -> None:
    found = explained(attngen.Spec(mask=masks.causal()), 8, 0, backend="reference")
    assert found.keysets[0].pairs == (0, 0)


def roofline(spec: attngen.Spec, device: str, n: int, d: int, heads: int = 4) -> tuple[float, str]:
    q = torch.zeros(1, heads, n, d, dtype=torch.bfloat16)
    found = attngen.compile(spec, backend="reference").explain(q, q, q)
    (one,) = [r for r in found.rooflines if r.device == device]
    return one.seconds, one.bound


def test_rooflines_count_visible_pairs() -> None:
    """Dense, 128 channels: the matrix unit decides, at 4 D FLOP for a pair; a causal mask leaves half of the pairs."""
    pairs = 4 * 2048**2
    seconds, bound = roofline(attngen.Spec(), "H100", 2048, 128)
    assert (seconds, bound) == (pytest.approx(pairs * 4 * 128 / 989.4e12), "matrix")
    causal, _ = roofline(attngen.Spec(mask=masks.causal()), "H100", 2048, 128)
    assert causal == pytest.approx(seconds * 2049 / 4096)


def test_rooflines_count_the_score() -> None:
    """A soft cap is a division and a tanh, two exponentials: three more of them than a plain softmax has."""
    sixteen_a_clock = 132 * 16 * 1.83e9
    seconds, bound = roofline(attngen.Spec(score=scores.soft_cap(30.0)), "H200", 2048, 64)
    assert (seconds, bound) == (pytest.approx(4 * 2048**2 * 4 / sixteen_a_clock), "exp")


def test_rooflines_of_few_queries_are_memory() -> None:
    q, k = torch.zeros(1, 4, 1, 128, dtype=torch.bfloat16), torch.zeros(1, 4, 4096, 128, dtype=torch.bfloat16)
    found = attngen.compile(attngen.Spec(), backend="reference").explain(q, k, k)
    assert {r.bound for r in found.rooflines} == {"memory"}
    assert found.rooflines[0].seconds == pytest.approx(found.work.bytes / 2039e9)


def test_no_roofline_in_float64() -> None:
    q = torch.zeros(1, 1, 4, 8, dtype=torch.float64)
    assert attngen.compile(attngen.Spec(), backend="reference").explain(q, q, q).rooflines == ()
