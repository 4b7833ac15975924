"""What tune and table time: a work in one direction, with its plan, its candidates and its launches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

import attngen
from benchmarks.gpu.candidates import backward_candidates, forward_candidates
from benchmarks.gpu.forced import NO_CAPTURES, Forced
from benchmarks.gpu.journal import Record
from benchmarks.gpu.rows import titled, works
from benchmarks.gpu.session import Session
from benchmarks.gpu.works import Work

DRY = ("causal, forward", "causal, backward")


@dataclass(frozen=True, slots=True)
class Subject:
    """A work and a direction."""

    work: Work
    backward: bool

    @property
    def name(self) -> str:
        return titled(self.work, self.backward)

    def forced(self, device: str) -> Forced:
        """The plan, from tensors of one batch that are never read."""
        size = self.work.size
        q = torch.empty(1, size.h, size.n, size.d, dtype=torch.bfloat16, device=device)
        return forced(self.work, device, q, q, q)

    def configs(self, device: str, dry: bool) -> dict[str, Any]:
        """The candidates by their text, the library's own first. Raises `UnsupportedError` where there is no kernel."""
        found = self.forced(device)
        if self.backward:
            found.refuse_backward()
            return {str(config): config for config in backward_candidates(found.backend, found.plan, dry)}
        return {str(config): config for config in forward_candidates(found.backend, found.plan, dry)}

    def built(self, found: Forced, config: Any) -> Any:
        """The module of a config, none of whose kernels is built yet."""
        if self.backward:
            return found.backend.build_backward(found.plan, config, NO_CAPTURES)
        return found.backend.build(found.plan, config)

    def call(self, found: Forced, config: Any, dout: torch.Tensor) -> Callable[[], Any]:
        """The launch to time."""
        if self.backward:
            return found.backward(found.backend.configs(found.plan)[0], config, dout)
        return found.forward(config)


def forced(work: Work, device: str, *qkv: torch.Tensor, captured: dict[str, torch.Tensor] | None = None) -> Forced:
    """The plan of a work for its tensors."""
    given = work.captured(device) if captured is None else captured
    kernel = attngen.compile(work.spec(work.size, given), backend="triton")
    return Forced.of(kernel, *qkv)


def subjects(session: Session) -> list[Subject]:
    """Every work of the table, forwards first; a dry run takes two."""
    found = [Subject(work, backward) for work, backward in works(session.dry)]
    found.sort(key=lambda subject: subject.backward)
    return [s for s in found if s.name in DRY] if session.dry else found


def best(session: Session, records: list[Record], name: str) -> tuple[str, str] | None:
    """The text of the fastest config of a work that was measured on this device, and of which commit: of this one
    where it was measured for it."""
    mine = [r for r in records if r["command"] == "tune" and r["row"] == name and "tflops" in r["result"]]
    mine = [r for r in mine if r["place"]["device"] == session.place.device]
    if not mine:
        return None
    commits = [r["place"]["commit"] for r in mine]
    chosen = session.place.commit if session.place.commit in commits else commits[-1]
    own = [r for r in mine if r["place"]["commit"] == chosen]
    # Runs that were taken up again have clocks of their own; what they share is the library's own config.
    fastest = max(own, key=lambda r: (r["result"]["beside_own"] or 0.0, r["result"]["tflops"]))
    return fastest["config"], chosen
