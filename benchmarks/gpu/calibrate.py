"""What the device reaches: matrix products, exponentials, copies. Beside each stands what the table of devices says."""

from __future__ import annotations

from collections.abc import Callable

import torch

from attngen.autotune.timing import Sample, timer
from attngen.codegen.devices import named
from benchmarks.gpu.place import clocks
from benchmarks.gpu.session import Result, Session

RUNS = 20


def measures(session: Session) -> dict[str, Callable[[], Result]]:
    """The calibrations by name."""
    return {
        "matrix products": lambda: _with_clocks(lambda: products(session)),
        "exponentials": lambda: _with_clocks(lambda: exponentials(session)),
        "copies": lambda: _with_clocks(lambda: copies(session)),
        "device": device,
    }


def _with_clocks(measure: Callable[[], Result]) -> Result:
    before = clocks()
    return measure() | {"clocks_before": before, "clocks_after": clocks()}


def _rate(session: Session, call: Callable[[], object], amount: float, unit: str, stated: float | None) -> Result:
    clock = timer(session.device)
    seconds = Sample.of([clock.seconds(call, False) for _ in range(2 if session.dry else RUNS)])
    rate = amount / seconds.median
    found = {"rate": rate, "unit": unit, "p20": amount / seconds.p80, "p80": amount / seconds.p20}
    return found | {"stated": stated, "share": None if stated is None else rate / stated}


def products(session: Session) -> Result:
    """TFLOP/s of a square bf16 product of normal numbers."""
    n = 64 if session.dry else 8192
    a, b = (torch.randn(n, n, device=session.device, dtype=torch.bfloat16) for _ in range(2))
    known = named(session.place.device)
    stated = None if known is None else known.bf16_tflops
    return _rate(session, lambda: a @ b, 2e-12 * n**3, "TFLOP/s", stated)


def exponentials(session: Session) -> Result:
    """Tera exponentials a second, by a Triton kernel whose other instructions are fewer by far."""
    from benchmarks.gpu.kernels import exponentials as kernel

    blocks, block, steps = (2, 64, 3) if session.dry else (132 * 64, 1024, 4096)
    x = torch.rand(blocks * block, device=session.device)
    out = torch.empty_like(x)
    known = named(session.place.device)
    stated = None if known is None else known.exps_per_second / 1e12
    amount = 1e-12 * blocks * block * steps
    found = _rate(session, lambda: kernel[(blocks,)](x, out, steps, BLOCK=block), amount, "Texp/s", stated)
    exact = x.double()
    for _ in range(min(steps, 64)):  # then it has long stopped moving
        exact = torch.exp2(-exact)
    return found | {"error": float((out.double() - exact).abs().max())}


def copies(session: Session) -> Result:
    """GB/s of a copy, what is read and what is written."""
    elements = 1024 if session.dry else 1 << 31
    one = torch.randint(0, 255, (elements,), dtype=torch.uint8, device=session.device)
    other = torch.empty_like(one)
    known = named(session.place.device)
    stated = None if known is None else known.memory_gbs
    return _rate(session, lambda: other.copy_(one), 2e-9 * elements, "GB/s", stated)


def device() -> Result:
    """What the driver says of the device, beside the table."""
    if not torch.cuda.is_available():
        return {"refused": "no CUDA device"}
    said = torch.cuda.get_device_properties()
    known = named(said.name)
    found: Result = {"sms": said.multi_processor_count, "l2_mb": said.L2_cache_size / 2**20}
    found |= {"memory_gb": said.total_memory / 1e9, "capability": list(torch.cuda.get_device_capability())}
    stated = {} if known is None else {"sms": known.sms, "l2_mb": known.l2_mb, "capability": list(known.capability)}
    return {"said": found, "stated": stated}
