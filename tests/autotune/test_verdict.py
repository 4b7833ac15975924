"""What several samples say together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attngen.autotune.verdict import verdict
from tests.autotune.samples import BASE, FAST, OTHER, VERSIONS, sample

LATER, LAST = "2026-11-30T12:00:00+00:00", "2027-11-30T12:00:00+00:00"


def test_nothing_is_said_without_samples() -> None:
    assert verdict([], VERSIONS) is None


def test_a_config_that_is_faster_by_more_than_the_noise_is_taken() -> None:
    found = verdict([sample(0.9, FAST), sample(0.8, OTHER)], VERSIONS)
    assert found is not None
    assert (found.config, found.base, found.stale) == (OTHER, BASE, False)
    assert found.ratio == pytest.approx(0.8)
    assert found.low < 0.8 < found.high


@pytest.mark.parametrize(("ratio", "error"), [(0.97, 0.05), (1.0, 0.01), (1.2, 0.01), (0.999, 0.0001)])
def test_else_the_built_in_one_stays(ratio: float, error: float) -> None:
    found = verdict([sample(ratio, error=error)], VERSIONS)
    assert found is not None
    assert (found.config, found.ratio) == (BASE, 1.0)


def test_of_two_that_nobody_can_tell_apart_the_first_one_stays() -> None:
    first, second = sample(0.90, FAST, 0.02), sample(0.89, OTHER, 0.02, date=LATER)
    for given in ([first, second], [second, first]):
        found = verdict(given, VERSIONS)
        assert found is not None
        assert found.config == FAST
    surely = verdict([first, sample(0.8, OTHER, 0.02, date=LATER)], VERSIONS)
    assert surely is not None
    assert surely.config == OTHER


def test_sessions_are_put_together_by_their_spread() -> None:
    sharp, vague = sample(0.9, error=0.005), sample(0.8, error=0.2, date=LATER)
    found = verdict([sharp, vague], VERSIONS)
    assert found is not None
    assert found.samples == 2
    assert 0.89 < found.ratio < 0.9


def test_older_sessions_weigh_less() -> None:
    found = verdict([sample(0.9), sample(0.8, date=LAST)], VERSIONS)
    same = verdict([sample(0.9), sample(0.8)], VERSIONS)
    assert found is not None
    assert same is not None
    assert found.ratio < same.ratio
    # They contradict each other by more than each of them knows.
    assert found.high - found.low > 2 * 0.01


def test_what_other_versions_built_is_a_hint_until_there_is_better() -> None:
    old = sample(0.7, OTHER, versions={"compiler": "g++ 11"})
    hint = verdict([old], VERSIONS)
    assert hint is not None
    assert (hint.config, hint.stale) == (OTHER, True)
    fresh = verdict([old, sample(0.9, FAST)], VERSIONS)
    assert fresh is not None
    assert (fresh.config, fresh.stale) == (FAST, False)


def test_ratios_to_another_built_in_config_do_not_count() -> None:
    before = replace(sample(0.5, OTHER), base="an older one")
    found = verdict([before, sample(0.9, FAST, date=LATER)], VERSIONS)
    assert found is not None
    assert (found.config, found.base) == (FAST, BASE)
