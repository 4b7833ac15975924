"""What all samples of one key say together: the config to take, and how sure that is.

Every session measured its configs beside the config that is built in. Ratios to it are put together by their spread,
older ones with less weight. A config is taken only where it is faster by more than the noise; of those that nobody can
tell from the fastest, it is the one that was found first: what has been in use stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import exp, log, sqrt

from attngen.autotune.sample import Sample

SURE = 1.96
"""Standard deviations on each side of 95 %."""
LEAST = 0.002
"""No measurement is better than this share."""
HALF_LIFE = 180.0
"""Days after which a sample counts half."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`config` is the one to take; it takes `ratio` of the time of the built-in one, `base`, between `low` and `high`.

    `stale`: what it rests on was measured with other versions than are here. `date`: of the newest sample for it.
    """

    config: str
    base: str
    ratio: float
    low: float
    high: float
    samples: int
    date: str
    stale: bool


def verdict(samples: Iterable[Sample], versions: Mapping[str, str]) -> Verdict | None:
    """The verdict of the samples of one key where these versions build; None without samples."""
    given = sorted(samples, key=lambda sample: (sample.when, sample.config))
    if not given:
        return None
    fresh = [sample for sample in given if dict(sample.versions) == dict(versions)]
    used = fresh or given
    # Ratios to another built-in config say nothing beside those to the present one.
    base = used[-1].base
    used = [sample for sample in used if sample.base == base]
    newest = used[-1].when
    found = {base: _Estimate(0.0, 0.0, used[0].when, used[-1].date, sum(s.config == base for s in used))}
    for config in dict.fromkeys(sample.config for sample in used):
        if config != base:
            found[config] = _estimate([s for s in used if s.config == config], newest)
    faster = {config: each for config, each in found.items() if config == base or each.mean + SURE * each.error < 0}
    best = min(faster.values(), key=lambda each: each.mean)
    equal = {
        c: e for c, e in faster.items() if c != base and e.mean - best.mean < SURE * sqrt(e.error**2 + best.error**2)
    }
    config = min(equal, key=lambda c: (equal[c].first, equal[c].mean)) if equal else base
    one = found[config]
    low, high = exp(one.mean - SURE * one.error), exp(one.mean + SURE * one.error)
    return Verdict(config, base, exp(one.mean), low, high, one.count, one.date, not fresh)


@dataclass(frozen=True, slots=True)
class _Estimate:
    """The logarithm of a ratio, its standard error, when the config was first and last measured, and how often."""

    mean: float
    error: float
    first: datetime
    date: str
    count: int


def _estimate(samples: list[Sample], newest: datetime) -> _Estimate:
    weights, means = [], []
    for sample in samples:
        error = max(LEAST, (log(sample.high) - log(sample.low)) / (2 * SURE))
        days = (newest - sample.when).total_seconds() / 86400
        weights.append(0.5 ** (days / HALF_LIFE) / error**2)
        means.append(log(sample.ratio))
    total = sum(weights)
    mean = sum(w * m for w, m in zip(weights, means, strict=True)) / total
    error = sqrt(1 / total)
    if len(samples) > 1:
        # Sessions may differ by more than each of them knows.
        scatter = sum(w * (m - mean) ** 2 for w, m in zip(weights, means, strict=True)) / total
        error = max(error, sqrt(scatter / (len(samples) - 1)))
    return _Estimate(mean, error, samples[0].when, samples[-1].date, len(samples))
