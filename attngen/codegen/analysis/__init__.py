"""What is proven about a mechanism instead of evaluated: tile classes, key ranges, schedules, index bounds, row safety.

Everything here is sound: "never", "always", "proven" hold for every value; what cannot be decided is "sometimes".
"""

from __future__ import annotations

from attngen.codegen.analysis.csr import Table
from attngen.codegen.analysis.evaluate import Evaluator
from attngen.codegen.analysis.interval import Interval, Truth
from attngen.codegen.analysis.loads import Arrays, LoadBounds
from attngen.codegen.analysis.ranges import AxisRanges, Range, Ranges, closed_form, visible_count
from attngen.codegen.analysis.schedule import Patterns, Schedule, Statistics, patterns, schedule
from attngen.codegen.analysis.tiles import Sizes, TileClass, Tiles, box, classify

__all__ = [
    "Arrays",
    "AxisRanges",
    "Evaluator",
    "Interval",
    "LoadBounds",
    "Patterns",
    "Range",
    "Ranges",
    "Schedule",
    "Sizes",
    "Statistics",
    "Table",
    "TileClass",
    "Tiles",
    "Truth",
    "box",
    "classify",
    "closed_form",
    "patterns",
    "schedule",
    "visible_count",
]
