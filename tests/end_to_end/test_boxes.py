"""Query tiles and key tiles that are boxes of a grid: on the CPU, wherever a mask restricts each axis for itself."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import attngen
from attngen import masks, mechanisms, normalizers, weights
from attngen.codegen.analysis import closed_form
from attngen.codegen.analysis.boxes import box_visits
from attngen.codegen.backends.cpu import compiler, isa
from attngen.codegen.backends.cpu.backend import CpuBackend
from attngen.codegen.backends.cpu.config import CpuConfig, default
from attngen.codegen.boxes import Boxes
from attngen.codegen.plan import Plan
from tests.codegen.plans import plan_of
from tests.end_to_end.gradients import check_gradients
from tests.end_to_end.oracle import check, kernel_of, operands, random
from tests.kinds import some

pytestmark = pytest.mark.cxx


def config_of(plan: Plan) -> CpuConfig:
    return default(isa.choose(), plan)


def learned(*shape: int, seed: int) -> Tensor:
    return random(*shape, seed=seed).requires_grad_()


# Neither length is a multiple of the side of a box: 11 x 19 is padded to 12 x 24.
DIMS = (11, 19)
N = DIMS[0] * DIMS[1]


def everything() -> tuple[attngen.Spec, dict[str, Tensor]]:
    """Scores that read queries, keys, pairs and coordinates; a sink, dropout, windows per head."""
    of_queries, of_keys, of_pairs = learned(N, seed=2), learned(4, N, seed=3), learned(N, N, seed=4)
    table, sink = learned(4, 2 * DIMS[0] - 1, seed=5), learned(4, seed=6)

    def score(score: Any, h: Any, q: Any, kv: Any) -> Any:
        near = table[h, q[0] - kv[0] + DIMS[0] - 1]
        return score + near + of_queries[q] * of_keys[h, kv] + 0.1 * of_pairs[q, kv] + 0.01 * (q - kv)

    spec = attngen.Spec(
        mask=masks.neighborhood(DIMS, (torch.tensor([3, 5, 7, 11]), 6)),
        score=score,
        normalizer=normalizers.softmax(sink=sink),
        weight=weights.dropout(0.2, seed=7),
        space=attngen.Grid(DIMS),
    )
    return spec, {"of_queries": of_queries, "of_keys": of_keys, "of_pairs": of_pairs, "table": table, "sink": sink}


def test_everything_that_a_score_reads() -> None:
    spec, by = everything()
    q, k, v = operands(n_q=N, d=9, dv=5)
    check_gradients(spec, q, k, v, by=by, lse=True)


SPECS = {
    "3-D, strides, causal": lambda: mechanisms.neighborhood((5, 6, 9), (3, 4, 5), (1, 2, 3), 1, (True, False, False)),
    "dilated": lambda: mechanisms.neighborhood(DIMS, (3, 5), 1, (2, 3)),
    "rows": lambda: mechanisms.axial(DIMS, 1),
    "columns": lambda: mechanisms.axial(DIMS, 0),
    "relu": lambda: mechanisms.neighborhood(DIMS, (5, 7), normalizer=normalizers.relu()),
    "two passes": lambda: mechanisms.neighborhood(DIMS, (5, 7), normalizer=normalizers.entmax(1.5)),
}


@pytest.mark.parametrize("name", some(SPECS, "rows", "relu"))
def test_against_the_reference(name: str) -> None:
    spec = SPECS[name]()
    n = 1
    for dim in spec.ir.space.dims:
        n *= dim
    assert config_of(plan_of(spec)).box
    check_gradients(spec, *operands(n_q=n, d=9, dv=20), lse=name not in ("relu", "two passes"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=lambda d: str(d)[6:])
def test_element_types(dtype: torch.dtype) -> None:
    check_gradients(mechanisms.neighborhood(DIMS, (5, 7)), *operands(n_q=N, d=24, dv=24, dtype=dtype), lse=True)


def test_layouts_of_operands() -> None:
    kernel = kernel_of(mechanisms.neighborhood(DIMS, (5, 7)))
    q, k, v = operands(n_q=N, d=24)
    out = check(kernel, q, k, v)
    on_grid = [t.unflatten(2, DIMS) for t in (q, k, v)]
    assert torch.equal(kernel(*on_grid), out.unflatten(2, DIMS))
    turned = [t.movedim(1, -2) for t in on_grid]
    assert torch.equal(kernel(*turned, layout="bnhd"), out.unflatten(2, DIMS).movedim(1, -2))
    spread = torch.zeros(*q.shape[:3], 48)
    spread[..., ::2] = q
    assert torch.equal(kernel(spread[..., ::2], k, v), out)


def test_extra_keys_are_in_a_row() -> None:
    more = {"extra_k": random(2, 2, 7, 9, seed=5), "extra_v": random(2, 2, 7, 20, seed=6)}
    spec = mechanisms.neighborhood(DIMS, (5, 7), extra_keys=True)
    assert config_of(plan_of(spec, d=8, dv=8)).box
    check_gradients(spec, *operands(n_q=N, d=9, dv=20), lse=True, **more)


def test_absent_keys_leak_nothing() -> None:
    kernel = kernel_of(mechanisms.neighborhood(DIMS, (5, 7)))
    q, k, v = operands(n_q=N, d=24)
    expected = kernel(q, k, v).unflatten(2, DIMS)
    for t, value in ((k, float("nan")), (v, float("inf"))):
        t.unflatten(2, DIMS)[:, :, :, 10:] = value
    # The last columns of the grid are also what pads its boxes.
    assert torch.equal(kernel(q, k, v).unflatten(2, DIMS)[:, :, :, :7], expected[:, :, :, :7])


def test_threads_have_no_part_in_results() -> None:
    kernel, found = kernel_of(mechanisms.neighborhood(DIMS, (5, 7))), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        leaves = [t.requires_grad_() for t in operands(n_q=N, d=24)]
        out = kernel(*leaves)
        found.append([out, *torch.autograd.grad(out, leaves, random(*out.shape))])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(
    "spec",
    [
        lambda: attngen.Spec(mask=masks.neighborhood(64, 7), space=attngen.Grid(64)),
        lambda: attngen.Spec(space=attngen.Grid((16, 16))),
        lambda: attngen.Spec(mask=masks.Mask.of(lambda q, kv: q[0] + q[1] >= kv[0]), space=attngen.Grid((16, 16))),
        lambda: mechanisms.neighborhood((16, 16), (5, 5), normalizer=normalizers.stick_breaking()),
        lambda: mechanisms.neighborhood((4, 4), (3, 3)),
    ],
    ids=["a line", "no mask", "axes together", "in order", "few tokens"],
)
def test_where_tiles_are_runs(spec: Any) -> None:
    assert not config_of(plan_of(spec())).box


COUNT = """
extern "C" __attribute__((visibility("default"))) void count(const void* arguments, int64_t* found) {
  using namespace attngen;
  const Args& a = *static_cast<const Args*>(arguments);
  for (long q = 0; q < a.call.queries; q += Tile::QT)
    KeySet0_0::segments(a, 0, 0, q, q + Tile::QT, [&](long begin, long end) {
      for (long k = begin; k < end; k += Boxes::volume) {
        found[0]++;
        found[1] += KeySet0_0::full(a, 0, 0, q, q + Tile::QT, k, k + Boxes::volume);
      }
    });
}
"""


@pytest.mark.parametrize(
    ("dims", "kernel", "stride"),
    [((64, 64), (31, 31), 1), ((11, 19), (5, 7), (1, 7)), ((5, 12, 9), (3, 4, 5), 2)],
    ids=["large", "padded", "3-D"],
)
def test_the_kernel_visits_what_is_simulated(dims: Any, kernel: Any, stride: Any, tmp_path: Path) -> None:
    spec = mechanisms.neighborhood(dims, kernel, stride)
    plan = plan_of(spec)
    config = config_of(plan)
    boxes = Boxes(dims, config.box)
    source = CpuBackend().emit(plan, config).text + COUNT
    library = ctypes.CDLL(str(compiler.compile_shared(source, config.isa, tmp_path)))
    arguments = (ctypes.c_int64 * 256)(1, 1, boxes.tokens, 1)
    found = (ctypes.c_int64 * 2)()
    library.count(arguments, found)
    ranges = closed_form(spec.ir.branches[0].mask, spec.ir.space)
    assert ranges is not None
    simulated = box_visits(ranges.axes, boxes)
    assert simulated is not None
    assert tuple(found) == (simulated.visited, simulated.full)
