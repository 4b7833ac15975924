"""Configs of one call side by side, in one process: each agrees with the oracle before it runs against the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, inf
from typing import TYPE_CHECKING, Any

from attngen.autotune.spaces import parse
from attngen.autotune.timing import Timer, timer
from attngen.autotune.workload import Workload, shortened
from attngen.codegen.backends import reference

if TYPE_CHECKING:
    from torch import Tensor

ALLOWED = {"fp64": 1e-12, "fp32": 1e-5, "bf16": 1e-2, "fp16": 2e-3}
"""Relative Frobenius error against float64 (DESIGN, section 6)."""
OF_GRADIENTS = 4.0
"""How much larger those of gradients may be, which are sums of products of rounded numbers."""
SLICE = 2e-3
"""Seconds that are timed at once: shorter calls run several times."""

Call = Callable[[], Any]


class Contest:
    """`prepare` builds and checks a config, `rounds` has those that passed run in turn; both by the text of configs."""

    def __init__(self, work: Workload) -> None:
        import torch

        self.work, self.short = work, shortened(work)
        self.timer: Timer = timer(work.device.partition(":")[0])
        self.calls: dict[str, Call] = {}
        self.times: dict[str, int] = {}
        self._generator = torch.Generator().manual_seed(0)
        self._oracle = self._wanted()
        self._first: list[Tensor] | None = None
        self._cotangent: Tensor | None = None

    def prepare(self, text: str) -> float:
        """The larger of the errors of a config: against the oracle on a short call, and against the first config on the
        call itself. Raises `Wrong` where it is too large, and what building raises."""
        config = parse(self.work.backend, self.work.backward, text)
        found = 0.0
        if self._oracle is not None and self.short is not None:
            short, exact = self._oracle
            found = _error(self._call(self.short, config, short)(), exact)
        call = self._call(self.work, config, None)
        results = call()
        if self._first is None:
            self._first = results
        found = max(found, _error(results, self._first))
        allowed = ALLOWED[self.work.problem.dtype] * (OF_GRADIENTS if self.work.backward else 1.0)
        if not found <= allowed:
            raise Wrong(f"its result is off by {found:.1e} (allowed: {allowed:.1e})")
        self.calls[text] = call
        return found

    def rounds(self, texts: Sequence[str], count: int, trying: Callable[[str], None]) -> dict[str, list[float]]:
        """Seconds of a call for each config in each of `count` rounds; another one begins each time."""
        taken: dict[str, list[float]] = {text: [] for text in texts}
        for i in range(count):
            first = i % len(texts)
            for text in (*texts[first:], *texts[:first]):
                trying(text)
                taken[text].append(self._seconds(text))
        return taken

    def _seconds(self, text: str) -> float:
        call = self.calls[text]
        times = self.times.get(text)
        if times is None:
            times = self.times[text] = max(1, ceil(SLICE / max(self.timer.seconds(call, False), 1e-9)))

        def several() -> None:
            for _ in range(times):
                call()

        return self.timer.seconds(call if times == 1 else several, times > 1) / times

    def _random(self, like: Tensor) -> Tensor:
        import torch

        return torch.randn(like.shape, generator=self._generator).to(like)

    def _wanted(self) -> tuple[Any, list[Tensor]] | None:
        """A cotangent for the short call (of a forward: None), and what the oracle says of it."""
        short = self.short
        if short is None:
            return None
        spec, layout = short.spec, short.layout
        out, _ = reference.run(spec, layout, short.operands, short.inputs, short.numbers, False)
        if not short.backward:
            return None, [out]
        dout = self._random(out.to(short.operands[0].dtype))
        names = ("q", "k", "v", *(i.name for i in spec.inputs if i.axes))
        asked = tuple(name in ("q", "k", "v", *short.wanted) for name in names)
        operands = [t.detach() for t in (*short.operands, *short.inputs)]
        q, k, v, *inputs = operands
        found = reference.differentiate(spec, layout, asked, dout, None, q, k, v, None, inputs, short.numbers)
        return dout, [t for t in found if t is not None]

    def _call(self, work: Workload, config: Any, dout: Any) -> Call:
        """The launch of a config; it returns the tensors to compare."""
        plan, backend, call = work.plan, work.target, work.call
        if not work.backward:
            forward = backend.prepare(backend.build(plan, config), plan, call)
            return lambda: [forward(*work.operands, work.inputs, work.numbers)[0]]
        forward = backend.prepare(backend.build(plan, backend.configs(plan)[0]), plan, call)
        out, _, rows = forward(*work.operands, work.inputs, work.numbers, True)
        if dout is None:
            dout = self._cotangent = self._random(out) if self._cotangent is None else self._cotangent
        built = backend.build_backward(plan, config, work.wanted)
        run = backend.prepare_backward(built, plan, call, work.wanted)

        def gradients() -> list[Any]:
            found = run(dout, None, *work.operands, rows, work.inputs, work.numbers)
            return [t for t in found if t is not None]

        return gradients


class Wrong(Exception):
    """A config whose result is not that of the oracle; the text says how far it is off."""


def _error(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """The largest relative Frobenius error; infinite where a number is not finite and should be."""
    worst = 0.0
    for one, other in zip(found, exact, strict=True):
        a, b = one.detach().double(), other.detach().double()
        if not bool((a.isfinite() == b.isfinite()).all()):
            return inf
        finite = b.isfinite()
        a, b = a[finite], b[finite]
        if a.numel():
            worst = max(worst, float((a - b).norm() / b.norm().clamp_min(1e-300)))
    return worst
