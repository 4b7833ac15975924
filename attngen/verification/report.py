"""What verification found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["ok", "FAILED", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """One property: its name, how it came out, and the figures or the reason."""

    name: str
    outcome: Outcome
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.outcome:<8}{self.name:<24}{self.detail}".rstrip()


def verdict(name: str, holds: bool, detail: str) -> Check:
    """ok or FAILED."""
    return Check(name, "ok" if holds else "FAILED", detail)


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one spec, in the order in which they ran."""

    name: str
    backend: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed, and not all were skipped."""
        return not self.failed and any(check.outcome == "ok" for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome == "FAILED")

    def summary(self) -> str:
        """One line: how many checks came out how."""
        counts = {outcome: sum(c.outcome == outcome for c in self.checks) for outcome in ("ok", "FAILED", "skipped")}
        words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        return f"{self.name} on {self.backend}: {words or 'nothing was checked'}"

    def __str__(self) -> str:
        return "\n".join((*map(str, self.checks), self.summary()))
