"""Predicted and measured times of configs, as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import log10

WIDTH, HEIGHT, MARGIN = 640, 400, 56


@dataclass(frozen=True, slots=True)
class Point:
    """A config: seconds that were predicted and measured. `mark` is "", "built in" or "in use"."""

    name: str
    predicted: float
    measured: float
    mark: str = ""


COLOURS = {"": "#8a94a6", "built in": "#1f5fbf", "in use": "#c0392b"}


def scatter(points: list[Point]) -> str:
    """An SVG document with logarithmic axes; the name of a config shows under the pointer."""
    across, up = (_axis([getattr(p, name) for p in points]) for name in ("predicted", "measured"))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect x="{MARGIN}" y="8" width="{WIDTH - MARGIN - 8}" height="{HEIGHT - MARGIN - 8}" fill="none" '
        'stroke="#c8ced8"/>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">predicted, ms</text>',
        f'<text x="14" y="{HEIGHT / 2}" transform="rotate(-90 14 {HEIGHT / 2})" text-anchor="middle">'
        "measured, ms</text>",
    ]
    for value, share in across.ends():
        x = MARGIN + share * (WIDTH - MARGIN - 8)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - MARGIN + 16}" text-anchor="middle">{1e3 * value:.3g}</text>')
    for value, share in up.ends():
        y = 8 + (1 - share) * (HEIGHT - MARGIN - 8)
        parts.append(f'<text x="{MARGIN - 6}" y="{y:.1f}" text-anchor="end">{1e3 * value:.3g}</text>')
    # What is marked lies on top.
    for point in sorted(points, key=lambda p: p.mark):
        x = MARGIN + across.share(point.predicted) * (WIDTH - MARGIN - 8)
        y = 8 + (1 - up.share(point.measured)) * (HEIGHT - MARGIN - 8)
        mark = f" ({point.mark})" if point.mark else ""
        title = f"{point.name}{mark}: {1e3 * point.predicted:.4g} ms predicted, {1e3 * point.measured:.4g} ms measured"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{5 if point.mark else 4}" fill="{COLOURS[point.mark]}">'
            f"<title>{escape(title)}</title></circle>"
        )
    return "\n".join([*parts, "</svg>"])


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float

    def share(self, value: float) -> float:
        """Where a value lies between the ends."""
        return (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))

    def ends(self) -> list[tuple[float, float]]:
        """Values to be written at the axis, and where."""
        middle = (self.low * self.high) ** 0.5
        return [(self.low, 0.0), (middle, 0.5), (self.high, 1.0)]


def _axis(values: list[float]) -> _Axis:
    return _Axis(min(values) / 1.1, max(values) * 1.1)
