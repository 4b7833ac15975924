"""The measured stage: candidates run in turn, the slower half goes, the rest runs longer.

The best meet the built-in config once more, in rounds that had no part in choosing them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from attngen.autotune.paired import Paired, paired
from attngen.autotune.process import Lost, Worker

FIRST_ROUNDS = 3
LAST_ROUNDS = 25
"""Rounds of the final: enough for an interval of a few thousandths on a quiet machine."""
LEAST = 3
"""Rounds without which nothing is said."""
FINALISTS = 3
"""Beside the built-in config and what has been in use."""
FINAL_SHARE = 0.3
"""Of the time that is left after preparing."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is, and the best config so far: `ratio` of the time of the built-in one."""

    stage: str
    done: int
    total: int
    best: str = ""
    ratio: float = 1.0


Tell = Callable[[Progress], None]


@dataclass(slots=True)
class Measures:
    """What was learned: the figures of each config beside `base`, and why others have none.

    `chosen` is the one to take: `base`, unless another one is faster by more than the noise.
    """

    base: str
    found: dict[str, Paired] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    final: tuple[str, ...] = ()

    @property
    def chosen(self) -> str:
        sure = {text: self.found[text] for text in self.final if text in self.found and self.found[text].high < 1.0}
        return min(sure, key=lambda text: sure[text].ratio, default=self.base)


class Race:
    """The rounds of one workload. `kept`: configs that the final takes beside the best, such as those in use."""

    def __init__(self, worker: Worker, base: str, deadline: float, tell: Tell, kept: Sequence[str] = ()) -> None:
        self.worker, self.deadline, self.tell = worker, deadline, tell
        self.kept = tuple(text for text in kept if text != base)
        self.measures = Measures(base)
        self.ready: list[str] = []
        self._times: dict[str, tuple[list[float], list[float]]] = {}

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()

    def run(self, candidates: Iterable[str]) -> Measures:
        """Measures the candidates, best guess first, as far as the time goes. Raises `Lost` where not even the built-in
        config runs, and `RuntimeError` where it is wrong."""
        self.prepare(candidates)
        self.halve()
        self.final()
        return self.measures

    def prepare(self, candidates: Iterable[str], share: float = 0.5) -> None:
        """Has the worker build and check them; half of the time at most."""
        base, stop = self.measures.base, self.left * (1 - share)
        self._begin()
        for text in dict.fromkeys((*self.kept, *candidates)):
            if text == base or text in self.ready:
                continue
            if self.left < stop:
                break
            self._prepare(text)
            self.tell(Progress("checked", len(self.ready), 0))

    def _begin(self) -> None:
        """The built-in config is the measure of all others."""
        found = self.worker.prepare(self.measures.base)
        if "error" not in found:
            raise RuntimeError(f"the built-in config {self.measures.base} cannot be measured: {_reason(found)}")

    def offer(self, text: str) -> bool:
        """Has the worker build and check one more; whether it may run."""
        return text in self.ready or self._prepare(text)

    def _prepare(self, text: str) -> bool:
        try:
            found = self.worker.prepare(text)
        except Lost as lost:
            self._drop(text, str(lost))
            self._again()
            return False
        if "error" in found:
            self.ready.append(text)
            return True
        self.measures.refused[text] = _reason(found)
        return False

    def _drop(self, text: str, reason: str) -> None:
        self.measures.refused[text] = reason
        self.measures.found.pop(text, None)
        self.ready = [each for each in self.ready if each != text]

    def _again(self) -> None:
        """Another worker, with everything that was ready."""
        self._begin()
        ready, self.ready = self.ready, []
        for text in ready:
            self._prepare(text)

    def halve(self) -> None:
        """Rounds of all that are ready; the slower half goes, and the others run twice as many."""
        alive, count = list(self.ready), FIRST_ROUNDS
        final = self.left * FINAL_SHARE
        while alive and self.left > final:
            alive = [text for text in self.rounds(alive, count, self.left - final) if text not in self.kept]
            if len(alive) <= FINALISTS:
                break
            alive, count = alive[: max(FINALISTS, len(alive) // 2)], 2 * count

    def rounds(self, texts: Sequence[str], count: int, seconds: float) -> list[str]:
        """The texts that ran, fastest first, after `count` rounds more, or as many as there is time for."""
        taken = self._rounds(texts, count, seconds)
        ran = [text for text in texts if text in taken and text in self.measures.found]
        return sorted(ran, key=lambda text: self.measures.found[text].ratio)

    def final(self) -> None:
        """The best of what was measured beside the built-in config: only these rounds count for them."""
        known = self.measures.found
        ranked = sorted((text for text in self.ready if text in known), key=lambda text: known[text].ratio)
        chosen = [*dict.fromkeys((*ranked[:FINALISTS], *(text for text in self.kept if text in self.ready)))]
        if not chosen:
            return
        self._times = {text: times for text, times in self._times.items() if text not in chosen}
        taken = self._rounds(chosen, LAST_ROUNDS, self.left)
        self.measures.final = tuple(text for text in chosen if text in taken)

    def _rounds(self, texts: Sequence[str], count: int, seconds: float) -> set[str]:
        """Runs rounds in pieces, so that the time is kept; notes the figures. Gives the texts with enough of them."""
        base, began, done = self.measures.base, time.monotonic(), 0
        alive = list(texts)
        while alive and done < count:
            spent = time.monotonic() - began
            each = spent / done if done else 0.0
            if done >= LEAST and spent + each > seconds:
                break
            piece = LEAST if not done else max(1, min(count - done, int((seconds - spent) / max(each, 1e-6))))
            try:
                taken = self.worker.rounds([base, *alive], piece)
            except Lost as lost:
                if lost.candidate is None or lost.candidate == base:
                    raise
                self._drop(lost.candidate, str(lost))
                self._again()
                alive = [text for text in alive if text in self.ready]
                continue
            done += piece
            for text in alive:
                own, beside = self._times.setdefault(text, ([], []))
                own += taken[text]
                beside += taken[base]
                self.measures.found[text] = paired(own, beside)
            self._note_base(taken[base])
            best = min(self.measures.found, key=lambda text: self.measures.found[text].ratio)
            ratio = self.measures.found[best].ratio
            self.tell(Progress(f"{len(alive)} configs", done, count, best, ratio))
        return {text for text in alive if len(self._times[text][0]) >= LEAST} if done else set()

    def _note_base(self, seconds: list[float]) -> None:
        base = self.measures.base
        own, beside = self._times.setdefault(base, ([], []))
        own += seconds
        beside += seconds
        self.measures.found[base] = paired(own, beside)


def _reason(found: dict[str, Any]) -> str:
    return str(next((found[name] for name in ("wrong", "refused", "failed") if name in found), "no word"))
