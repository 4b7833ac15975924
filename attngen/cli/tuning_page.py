"""What `attngen tune` prints: a bar while it is at work, then the configs and what is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attngen.autotune.measured import Progress
    from attngen.autotune.paired import Paired
    from attngen.autotune.tune import Outcome

SHOWN = 5
"""Configs of a measurement that are shown, and twice as many of a prediction."""


class Bar:
    """A line on the terminal that says how far it is, and the best so far."""

    def __init__(self, budget: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (BarColumn(), TimeElapsedColumn(), TextColumn(f"of {budget:.0f} s  {{task.description}}"))
        self._budget = budget
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)

    def __enter__(self) -> Bar:
        self._progress.start()
        self._task = self._progress.add_task("", total=self._budget)
        return self

    def tell(self, told: Progress) -> None:
        """Shows the state of a stage."""
        best = f": best so far {told.ratio:.3f} of the built-in one, {told.best}" if told.best else ""
        total = f" of {told.total}" if told.total else ""
        elapsed = self._progress.tasks[0].elapsed or 0.0
        shown = f"{told.stage} {told.done}{total}{best}"
        self._progress.update(self._task, completed=min(self._budget, elapsed), description=shown)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def space_lines(outcome: Outcome) -> Iterator[str]:
    """The space: by prediction, fastest first, then what is left out."""
    own = outcome.space.own
    for each in outcome.ranked:
        yield f"{1e3 * each.seconds:10.4g} ms  {each.config}{'  (built in)' if each.config == own else ''}"
    yield from (f"left out: {one.config}: {one.reason}" for one in outcome.space.pruned)
    yield f"{len(outcome.ranked)} configs, by prediction; {len(outcome.space.pruned)} are left out"


def static_lines(outcome: Outcome, candidates: int, gpu: str) -> Iterator[str]:
    """What the static stage says of a GPU that is not here."""
    yield from _left_out(outcome.built)
    passed = [each for each in outcome.ranked if outcome.built.get(str(each.config), "") is None]
    for each in passed[: 2 * SHOWN]:
        yield f"{1e3 * each.seconds:10.4g} ms predicted  {each.config}"
    left = candidates - len(outcome.built)
    yield f"{len(passed)} of {candidates} candidates pass the lint" + (f"; {left} had no time" if left else "")
    yield f"there is no {gpu} on this machine: the static stage alone. Nothing was measured, and nothing is kept"


def measured_lines(outcome: Outcome) -> Iterator[str]:
    """What was measured, and what is kept."""
    measures = outcome.measures
    if measures is None:
        return
    yield from _left_out(outcome.built)
    yield from _left_out(measures.refused)
    found = measures.found
    for text in sorted(found, key=lambda text: found[text].ratio)[:SHOWN]:
        mark = "  (built in)" if text == outcome.base else ""
        yield f"{1e3 * found[text].seconds:10.4g} ms, {_ratio(found[text])}: {text}{mark}"
    agreement = outcome.agreement
    told = "" if agreement is None else f"; rank correlation of predicted and measured times {agreement:.2f}"
    yield f"{len([text for text in found if text != outcome.base])} configs were measured beside the built-in one{told}"
    chosen = found.get(outcome.chosen)
    if chosen is None or outcome.chosen == outcome.base:
        yield f"kept: {outcome.base}: nothing is faster by more than the noise"
    else:
        gain = f"{1 / chosen.ratio:.3f} x the built-in one ({1 / chosen.high:.3f} to {1 / chosen.low:.3f})"
        yield f"kept: {outcome.chosen}: {gain}"


def _ratio(one: Paired) -> str:
    return f"{one.ratio:.3f} of the built-in one ({one.low:.3f} to {one.high:.3f})"


def _left_out(reasons: dict[str, str] | dict[str, str | None]) -> Iterator[str]:
    yield from (f"left out: {text}: {reason}" for text, reason in reasons.items() if reason is not None)
