"""One child at work: what is to be measured, one unit after the other, until all is there or the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attngen.errors import UnsupportedError
from benchmarks.gpu.journal import Journal, Mark, Record
from benchmarks.gpu.place import Place
from benchmarks.gpu.supervise import REOPEN

Result = dict[str, Any]
"""Figures by name, or {"refused": reason} or {"failed": reason}."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    command: str
    out: Path
    budget: float
    dry: bool = False
    retry: bool = False
    sanitize: bool = False
    only: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """Measurements that are taken together: of one row, for the configs that are not in the journal yet.

    `needs`: seconds that have to be left to begin it. `run` gives pairs of a config and its result. `stage`: what its
    records are filed under where it is not the command's own name.
    """

    row: str
    configs: tuple[str, ...]
    needs: float
    run: Callable[[list[str]], Iterable[tuple[str, Result]]]
    stage: str = ""


class Session:
    """The state of a run: the journal of its command, the place, and the time that is left."""

    def __init__(self, options: Options, place: Place, device: str) -> None:
        self.options, self.place, self.device = options, place, device
        self.journal = Journal(options.out / f"{options.command}.jsonl")
        self.mark = Mark(options.out / f"{options.command}.running")
        self.deadline = time.monotonic() + options.budget
        self.broken = False

    @property
    def dry(self) -> bool:
        return self.options.dry

    def remaining(self) -> float:
        return self.deadline - time.monotonic()

    def records(self, stage: str = "") -> list[Record]:
        """What the journal holds of this commit, this device and a stage; the last of those with one key."""
        wanted = stage or self.options.command
        mine = (r for r in self.journal.records if self._is_mine(r) and r["command"] == wanted)
        return list({(r["row"], r["config"]): r for r in mine}.values())

    def result(self, row: str, config: str, stage: str = "") -> Result | None:
        found = [r["result"] for r in self.records(stage) if (r["row"], r["config"]) == (row, config)]
        return found[0] if found else None

    def _is_mine(self, record: Record) -> bool:
        place = record.get("place", {})
        return (place.get("commit"), place.get("device")) == (self.place.commit, self.place.device)

    def measure(self, units: Iterable[Unit]) -> list[str]:
        """Runs the units that are not done; gives what is left where the time does not suffice."""
        left: list[str] = []
        for unit in units:
            wanted = [config for config in unit.configs if self._is_wanted(unit, config)]
            if not wanted or self.options.only not in unit.row:
                continue
            if left or self.remaining() < unit.needs:
                left.append(f"{unit.row} ({unit.stage or self.options.command}: {len(wanted)})")
                continue
            self._run(unit, wanted)
        return left

    def _run(self, unit: Unit, wanted: list[str]) -> None:
        """What goes wrong between attempts is the result of every config that has none yet."""
        kept: set[str] = set()
        try:
            for config, result in unit.run(wanted):
                self.keep(unit, config, result)
                kept.add(config)
                self._stop_if_broken()
        except Exception as problem:
            for config in wanted:
                if config not in kept:
                    self.keep(unit, config, {"failed": reason_of(problem)})
            self.broken = self.device == "cuda" and not answers()
        self._stop_if_broken()

    def _stop_if_broken(self) -> None:
        if self.broken:
            raise SystemExit(REOPEN)

    def _is_wanted(self, unit: Unit, config: str) -> bool:
        found = self.result(unit.row, config, unit.stage)
        return found is None or (self.options.retry and "failed" in found)

    def keep(self, unit: Unit, config: str, result: Result) -> None:
        """Appends a finished measurement, and says so."""
        record = self._record(unit.row, config, unit.stage) | {"result": result}
        self.journal.append(record)
        self.mark.clear()
        reason = result.get("refused") or result.get("failed")
        print(f"  {unit.row} [{config}]: {reason or 'done'}", flush=True)

    def attempt(self, row: str, config: str, work: Callable[[], Result], stage: str = "") -> Result:
        """The result of `work`, or why there is none; a device that answers no more is noticed here."""
        self.mark.set(self._record(row, config, stage))
        try:
            return work()
        except UnsupportedError as problem:
            return {"refused": str(problem)}
        except Exception as problem:
            return {"failed": reason_of(problem)}
        finally:
            self.broken = self.device == "cuda" and not answers()

    def single(self, row: str, config: str, needs: float, work: Callable[[], Result]) -> Unit:
        """A unit of one measurement."""
        return Unit(row, (config,), needs, lambda _: [(config, self.attempt(row, config, work))])

    def _record(self, row: str, config: str, stage: str) -> Record:
        return {"place": asdict(self.place), "command": stage or self.options.command, "row": row, "config": config}


def reason_of(problem: Exception) -> str:
    """An error in one line."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return f"{type(problem).__name__}: {lines[0][:300] if lines else ''}".rstrip(": ")


def answers() -> bool:
    """Whether the device still works: after some errors nothing does in this process."""
    import torch

    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except Exception:
        return False
    return True
