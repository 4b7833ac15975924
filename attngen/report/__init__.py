"""One page about a call that needs nothing beside it: mask, plan, facts, rooflines, tuning, generated source."""

from __future__ import annotations

from attngen.report.page import report

__all__ = ["report"]
