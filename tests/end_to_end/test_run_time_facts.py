"""What belongs to a call never rebuilds a kernel, and the next call sees it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attngen
from attngen import masks
from attngen.codegen.backends.cpu.backend import CpuBackend
from tests.end_to_end.oracle import check, kernel_of, operands, random

pytestmark = pytest.mark.cxx


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every kernel that is asked for, built or cached."""
    asked: list[str] = []
    build = CpuBackend.build

    def counted(self: CpuBackend, plan: Any, config: Any) -> Any:
        asked.append(plan.spec.name)
        return build(self, plan, config)

    monkeypatch.setattr(CpuBackend, "build", counted)
    return asked


def test_lengths_heads_batches_and_strides(builds: list[str]) -> None:
    kernel = kernel_of(attngen.Spec(mask=masks.sliding_window(21), name="lengths"))
    for n_q, n_k, h, hk, b in [(5, 5, 4, 2, 2), (70, 91, 4, 2, 2), (1, 300, 6, 1, 1), (300, 1, 3, 3, 5)]:
        q, k, v = operands(b=b, h=h, hk=hk, n_q=n_q, n_k=n_k)
        check(kernel, q, k, v)
        check(kernel, q.transpose(1, 2).contiguous().transpose(1, 2), k, v)
    assert builds == ["lengths"]


def test_captured_numbers(builds: list[str]) -> None:
    window, slope = 5, 0.1

    def score(score: Any, q: Any, kv: Any) -> Any:
        return score - slope * (q - kv)

    kernel = kernel_of(attngen.Spec(mask=lambda q, kv: (kv <= q) & (q - kv < window), score=score, name="numbers"))
    found = []
    for window, slope in [(5, 0.1), (17, 0.1), (17, -0.3), (0, 1.0), (10**6, 0.0), (-4, 0.5)]:  # noqa: B007
        found.append(check(kernel, *operands(n_q=130), lse=True))
    assert builds == ["numbers"]
    assert not torch.equal(found[0], found[1])


def test_captured_tensors_in_place_rebound_and_replaced(builds: list[str]) -> None:
    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slopes = torch.nn.Parameter(random(4))
            self.register_buffer("lengths", torch.tensor([30, 70]))
            self.kernel = kernel_of(
                attngen.Spec(mask=lambda b, kv: kv < self.lengths[b], score=lambda score, h: score * self.slopes[h])
            )

    module, (q, k, v) = Module(), operands()
    with torch.no_grad():
        found = [check(module.kernel, q, k, v)]
        module.slopes.mul_(2)
        found.append(check(module.kernel, q, k, v))
        module.slopes.data = random(4, seed=5)
        found.append(check(module.kernel, q, k, v))
        module.slopes = torch.nn.Parameter(random(4, seed=6))
        found.append(check(module.kernel, q, k, v))
        module.load_state_dict({"slopes": random(4, seed=7), "lengths": torch.tensor([1, 2])})
        found.append(check(module.kernel, q, k, v))
        module.lengths = torch.tensor([70, 0])
        found.append(check(module.kernel, q, k, v))
    assert len(builds) == 1
    assert all(not torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])


def test_a_mask_tensor_changed_in_place_is_seen(builds: list[str]) -> None:
    ids = torch.arange(130) // 20
    kernel = kernel_of(attngen.Spec(mask=masks.document(ids) & masks.causal()))
    first = check(kernel, *operands(n_q=130))
    ids[5:] = 1
    second = check(kernel, *operands(n_q=130))
    ids.copy_(torch.arange(130) // 20)
    assert torch.equal(check(kernel, *operands(n_q=130)), first)
    assert not torch.equal(first, second)
    assert len(builds) == 1


def test_seeds_and_gates_given_per_call(builds: list[str]) -> None:
    kernel = kernel_of(attngen.Spec(mask="kv < n", score="score * gate[b, h, q]", name="given"))
    for n in (0, 1, 64, 200):
        check(kernel, *operands(n_q=130), n=n, gate=random(2, 4, 130, seed=n))
    assert builds == ["given"]


def test_dtype_and_width_do_build(builds: list[str]) -> None:
    kernel = kernel_of(attngen.Spec(mask=masks.causal(), name="built"))
    check(kernel, *operands())
    check(kernel, *operands(d=17))
    check(kernel, *operands(dtype=torch.bfloat16))
    check(kernel, *operands())
    assert builds == ["built"] * 3


def test_disabled_jit_uses_what_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = attngen.Spec(mask=masks.causal())
    q, k, v = operands()
    expected = kernel_of(spec)(q, k, v)
    from attngen.runtime.engine import engine

    engine.cache_clear()
    monkeypatch.setenv("ATTNGEN_DISABLE_JIT", "1")
    assert torch.equal(kernel_of(spec)(q, k, v), expected)
    with pytest.raises(attngen.AttngenError, match="ATTNGEN_DISABLE_JIT"):
        kernel_of(attngen.Spec(score="score * 0.987654321"))(q, k, v)
