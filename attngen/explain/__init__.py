"""What the compiler proved and chose for one call, and what the call costs."""

from __future__ import annotations

from attngen.explain.explain import explain
from attngen.explain.explanation import Choice, Explanation, InputFacts, KeySetFacts, Work

__all__ = ["Choice", "Explanation", "InputFacts", "KeySetFacts", "Work", "explain"]
