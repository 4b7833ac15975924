"""The benchmark programs: what they compare is the same thing, and a busy machine proves nothing. No times."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import attngen
from attngen.autotune.paired import Paired
from benchmarks import backward, families, forward, tuning, variants, work
from benchmarks.measure import BUSY, Row, Sample, interleave
from benchmarks.tables import Results, Section, write


class Rates:
    """A machine whose rates are given: each look at it takes the next."""

    def __init__(self, *rates: float) -> None:
        self.rates = list(rates)
        self.best = {"fp32": max(rates)}

    def measure(self, dtype: str) -> float:
        return self.rates.pop(0)


def test_rounds_of_a_busy_machine_do_not_count() -> None:
    row = interleave({"one": int, "other": int}, Rates(10, 10, 10, 5, 10, 10, 10), "fp32", 3)
    assert (row.rounds, row.quiet, row.peak) == (3, 2, 10)
    assert [row.verdict(met) for met in (True, False, None)] == ["yes", "no", ""]
    busy = interleave({"one": int, "other": int}, Rates(10, 10, 5, 5, 5, 5, 5), "fp32", 3)
    assert busy.quiet == 0
    assert busy.verdict(True) == BUSY


@pytest.mark.parametrize("mask", ["full", "causal", "window"])
def test_useful_flops_are_those_of_visible_pairs(mask: str) -> None:
    seen = {"full": lambda i, j: True, "causal": lambda i, j: j <= i, "window": lambda i, j: i - 256 < j <= i}[mask]
    one = work.Work("", "fp32", 1, 1, 300, 2, mask, "sdpa", 1.0)
    assert one.pairs == sum(seen(i, j) for i in range(one.n) for j in range(one.n))
    assert replace(one, backward=True).flops == 14 * one.pairs * 2


def test_quick_tables_are_parts_of_the_whole() -> None:
    for module in (forward, backward):
        assert set(module.table(quick=True)) < set(module.table(quick=False))


@pytest.mark.cxx
@pytest.mark.parametrize("row", backward.table(quick=True)[:2], ids=lambda row: row.dtype)
def test_gradients_of_contenders_agree(row: work.Work) -> None:
    assert set(work.contenders(replace(row, h=2, n=96))) == {"attngen", "sdpa"}  # stops where they do not


def test_variants_stand_beside_one_of_their_set() -> None:
    for chosen in variants.SETS:
        made = chosen.variants(2, 16)
        names = [variant.name for variant in made]
        assert len(set(names)) == len(names)
        assert all(variant.base in ("", *names) for variant in made)


def test_families_are_judged_by_useful_work_and_by_time() -> None:
    assert families.window(8, 3) == (1 + 2 + 3 * 6) / 64
    family = families.Family("half", attngen.Spec, visible=0.5, share=0.75, ratio=1.5)
    results = Results("machine", "avx2", 2, "2.13", "abc", "python -m benchmarks.cpu --families")
    for seconds, ratio, share, met in ((1.0, 1.6, 0.8, "yes"), (1.1, 1.6 / 1.1, 0.8 / 1.1, "no")):
        samples = {"family": Sample(seconds, seconds, seconds), "dense": Sample(1.6, 1.6, 1.6)}
        line = families.report(family, "fp32", Row(samples, 1e9, 3, 3), results)
        assert line[4:] == [f"{ratio:.2f} x", "50.0%", f"{share:.0%}", ">= 75%, >= 1.5 x", met]
    assert [row["target_met"] for row in results.rows] == ["yes", "no"]


def test_files(tmp_path: Path) -> None:
    results = Results("machine", "avx2", 2, "2.13", "abc", "python -m benchmarks.cpu", rows=[{"ratio": 2.0}])
    section = Section("Forward", ["work", "ms"], [["full", "1.00"]])
    write(tmp_path / "new", "cpu", results, [section], ["note"])
    assert json.loads((tmp_path / "new" / "cpu.json").read_text())["rows"] == [{"ratio": 2.0}]
    assert (tmp_path / "new" / "cpu.md").read_text() == (
        "`python -m benchmarks.cpu`\n\n| work | ms |\n| --- | --- |\n| full | 1.00 |\n\n- note\n"
    )


def test_tuning_is_judged_by_intervals() -> None:
    def within(low: float, high: float) -> str:
        return tuning._within(Paired(1e-3, 1e-5, (low + high) / 2, low, high, 25), 1.03)

    assert (within(1.0, 1.02), within(1.04, 1.1), within(1.0, 1.1)) == ("yes", "no", "not decided")
    assert tuning._within(None, 1.03) == "yes"
    assert tuning.ratio(Paired(1e-3, 1e-5, 1.05, 1.01, 1.1, 25)) == "1.050 (1.010 to 1.100)"
    assert len(tuning.TABLE) == 12
