"""An explanation as a page of text."""

from __future__ import annotations

from collections.abc import Iterator

from attngen.explain.explanation import Explanation, KeySetFacts

Line = tuple[str, str]

MOST_SHAPES = 4
"""Shapes of tiles on a grid that are shown, the best first."""


def page(explanation: Explanation) -> str:
    """The page: a label, two blanks, a fact; one for each line."""
    lines = list(_lines(explanation))
    width = max(len(label) for label, _ in lines)
    body = "\n".join(f"{label:<{width}}  {fact}".rstrip() for label, fact in lines)
    return f"{explanation.name}: {explanation.call}\n{body}"


def _lines(e: Explanation) -> Iterator[Line]:
    yield "backend", e.choice.backend
    for name, reason in e.choice.others:
        yield "", f"not {name}: {reason}"
    yield "config", e.choice.config
    yield "loop", e.choice.loop
    for facts in e.keysets:
        yield from _keyset(facts)
    work = e.work
    least, most = work.useful
    useful = scaled(least, "FLOP") if least == most else f"{scaled(least, 'FLOP')} to {scaled(most, 'FLOP')}"
    yield "work", f"{useful} useful, {scaled(work.visited, 'FLOP')} on visited tiles"
    yield "traffic", f"{binary(work.bytes)} read and written once, {work.intensity:.1f} useful FLOP/byte"
    if work.thread_memory is not None:
        yield "memory", f"about {binary(work.thread_memory)} of tiles for each thread, whatever the length"
    if e.rooflines:
        # Two lines, so that they fit a terminal.
        shown = [f"{r.device} {duration(r.seconds)} ({r.bound})" for r in e.rooflines]
        yield "rooflines", ", ".join(shown[:3]) + ("," if shown[3:] else "")
        if shown[3:]:
            yield "", ", ".join(shown[3:])
    for given in e.inputs:
        yield "input", f"{given.name}: {given.what}, read through {given.path}"
    if not e.inputs:
        yield "input", "none besides q, k and v"


def _keyset(f: KeySetFacts) -> Iterator[Line]:
    if f.title:
        yield f.title, ""
    yield "mask", f.mask
    yield "ranges", f.form
    for label, ranges in (("visited", f.visited), ("full", f.full)):
        for one in ranges:
            yield f"  {label}", one
    yield "patterns", f.patterns
    yield "rows", f.rows
    for tensor, kind in f.loads:
        yield "load", f"{tensor}: {kind}"
    yield "normalizer", f.normalizer
    if f.tiles is not None and f.tile is not None:
        t = f.tiles
        size = f"boxes of {_sides(f.box)}" if f.box else f"{f.tile[0]} queries x {f.tile[1]} keys"
        yield "tiles", f"{t.visited} of {t.tiles} visited ({size}): {t.full} full, {t.partial} partial"
    for shape in f.shapes[:MOST_SHAPES]:
        share, bound = shape.full / max(1, shape.visited), f"at most {shape.bound:.2f} x faster than all"
        text = f"{shape.visited} of {shape.tiles} visited, {share:.0%} of them full, {bound}"
        yield "shape", f"{_sides(shape.boxes.sides)}: {text}"
    least, most = f.pairs
    yield "pairs", f"{least} visible" if least == most else f"{least} to {most} visible"


def _sides(box: tuple[int, ...]) -> str:
    return " x ".join(map(str, box))


def scaled(number: float, unit: str) -> str:
    """1234567 FLOP => 1.23 MFLOP"""
    for prefix in ("", "k", "M", "G", "T", "P"):
        if number < 1000 or prefix == "P":
            break
        number /= 1000
    return f"{number:.3g} {prefix}{unit}"


def duration(seconds: float) -> str:
    """Seconds with a prefix, three digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size or unit == "us":
            break
    return f"{seconds / size:.3g} {unit}"


def binary(size: float) -> str:
    """Bytes with a binary prefix."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"
