"""Checks every property of one spec against the float64 oracle: what `attngen verify` runs."""

from __future__ import annotations

from attngen.verification.report import Check, Report
from attngen.verification.run import verify

__all__ = ["Check", "Report", "verify"]
