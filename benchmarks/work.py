"""One comparison with a peer: what is computed, by whom, and what the times say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import attngen
from benchmarks.measure import Row
from benchmarks.tables import Results

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
HEADER = ["work", "dtype", "ms", "peer ms", "ratio", "at peak", "GFLOP/s of peak", "share", "target", "met"]

WINDOW = 256


@dataclass(frozen=True, slots=True)
class Work:
    """One row of the table: useful FLOPs are those of visible (query, key) pairs. Targets: ratio and share of peak."""

    name: str
    dtype: str
    b: int
    h: int
    n: int
    d: int
    mask: str
    peer: str
    ratio: float
    share: float | None = None
    backward: bool = False

    @property
    def pairs(self) -> int:
        match self.mask:
            case "causal":
                return self.n * (self.n + 1) // 2
            case "window":
                return sum(min(i + 1, WINDOW) for i in range(self.n))
            case _:
                return self.n * self.n

    @property
    def flops(self) -> float:
        """Two products in the forward; five in the backward, which computes the scores again."""
        return (14.0 if self.backward else 4.0) * self.b * self.h * self.pairs * self.d


def contenders(work: Work) -> dict[str, Callable[[], Any]]:
    """Callables by name; each runs the same attention on the same tensors, and gives its result or its gradients."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(work.b, work.h, work.n, work.d, dtype=DTYPES[work.dtype]) for _ in range(3))
    masks = {
        "full": None,
        "causal": attngen.masks.causal(),
        "window": attngen.masks.sliding_window(WINDOW),
    }
    kernel = attngen.compile(attngen.Spec(mask=masks[work.mask]))
    found: dict[str, Callable[[], Any]] = {"attngen": lambda: kernel(q, k, v)}
    if work.peer == "sdpa":
        found["sdpa"] = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=work.mask == "causal")
    else:
        found["flex"] = flex_window(q, k, v)
    if work.backward:
        dout = torch.randn_like(v)
        found = {name: gradients(call, dout, q, k, v) for name, call in found.items()}
    check(work, found)
    return found


def gradients(call: Callable[[], Tensor], dout: Tensor, *tensors: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """The call with the gradients by the tensors, which require grad from now on, for the cotangent `dout`."""
    for tensor in tensors:
        tensor.requires_grad_()
    return lambda: torch.autograd.grad(call(), tensors, dout)


def check(work: Work, found: dict[str, Callable[[], Any]]) -> None:
    """Stops where attngen and the peer disagree: times of different things are not compared."""
    allowed = 1e-4 if work.dtype == "fp32" else 2e-2
    results = {name: call() for name, call in found.items()}
    pairs = zip(*(r if work.backward else (r,) for r in results.values()), strict=True)
    for ours, peer in pairs:
        error = float((peer.float() - ours.float()).norm() / peer.float().norm())
        if not error <= allowed:
            raise SystemExit(f"{work.name} {work.dtype}: attngen and {work.peer} differ by {error:.1e}")


def flex_window(q: Tensor, k: Tensor, v: Tensor) -> Callable[[], Any]:
    """FlexAttention with the same window, its block mask built beforehand."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def window(b: Any, h: Any, i: Any, j: Any) -> Any:
        return (i >= j) & (i - j < WINDOW)

    block_mask = create_block_mask(window, None, None, q.shape[2], k.shape[2], device="cpu")
    compiled = torch.compile(flex_attention, dynamic=False)

    def run() -> Any:
        with torch.no_grad():
            return compiled(q, k, v, block_mask=block_mask)

    return run


def report(work: Work, row: Row, results: Results) -> list[str]:
    """One line of the printed table; keeps the figures."""
    ours, peer = row.samples["attngen"], row.samples[work.peer]
    ratio, rate = peer.median / ours.median, work.flops / ours.median
    share = rate / row.peak
    bound = row.peak * peer.median / work.flops  # the ratio of a kernel that runs at the peak
    verdict = row.verdict(ratio >= work.ratio and (work.share is None or share >= work.share))
    results.rows.append(
        {
            "work": asdict(work),
            "seconds": {name: asdict(sample) for name, sample in row.samples.items()},
            "gflops": rate / 1e9,
            "peak_gflops": row.peak / 1e9,
            "ratio": ratio,
            "ratio_at_peak": bound,
            "share_of_peak": share,
            "rounds": row.rounds,
            "quiet_rounds": row.quiet,
            "target_met": verdict,
        }
    )
    target = f">= {work.ratio} x" + (f", >= {work.share:.0%}" if work.share is not None else "")
    return [
        work.name,
        work.dtype,
        f"{ours.median * 1e3:.2f}",
        f"{work.peer} {peer.median * 1e3:.2f}",
        f"{ratio:.2f} x",
        f"{bound:.2f} x",
        f"{rate / 1e9:.0f} of {row.peak / 1e9:.0f}",
        f"{share:.0%}",
        target,
        verdict,
    ]
