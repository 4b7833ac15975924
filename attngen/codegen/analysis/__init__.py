"""What is proven about a mechanism instead of evaluated: tile classes, key ranges, schedules, index bounds, row safety.

Everything here is sound: "never", "always", "proven" hold for every value; what cannot be decided is "sometimes".
"""

from __future__ import annotations

from attngen.codegen.analysis.bounds import IndexCheck, Status, check_indices
from attngen.codegen.analysis.csr import Table
from attngen.codegen.analysis.evaluate import Evaluator
from attngen.codegen.analysis.index_class import Access, IndexClass, accesses, index_class
from attngen.codegen.analysis.interval import Interval, Truth
from attngen.codegen.analysis.loads import Arrays, LoadBounds
from attngen.codegen.analysis.ranges import (
    AxisRanges,
    Range,
    Ranges,
    closed_form,
    flattened_mask,
    visible_count,
    whole_mask,
)
from attngen.codegen.analysis.rows import Facts, first_unsafe_row, rows_are_safe
from attngen.codegen.analysis.schedule import Patterns, Schedule, Statistics, patterns, schedule
from attngen.codegen.analysis.tiles import Sizes, TileClass, Tiles, all_tiles, box, classify
from attngen.codegen.analysis.turned import turned, turned_ranges

__all__ = [
    "Access",
    "Arrays",
    "AxisRanges",
    "Evaluator",
    "Facts",
    "IndexCheck",
    "IndexClass",
    "Interval",
    "LoadBounds",
    "Patterns",
    "Range",
    "Ranges",
    "Schedule",
    "Sizes",
    "Statistics",
    "Status",
    "Table",
    "TileClass",
    "Tiles",
    "Truth",
    "accesses",
    "all_tiles",
    "box",
    "check_indices",
    "classify",
    "closed_form",
    "first_unsafe_row",
    "flattened_mask",
    "index_class",
    "patterns",
    "rows_are_safe",
    "schedule",
    "turned",
    "turned_ranges",
    "visible_count",
    "whole_mask",
]
