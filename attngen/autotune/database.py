"""The samples of a device: the tables that are shipped with the package and the user's own, ready for a look-up.

They are read once in a process. A look-up is a few steps through dictionaries.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from attngen import settings
from attngen.autotune import files
from attngen.autotune.key import UNKNOWN, Head, Key, Sizes
from attngen.autotune.sample import Sample
from attngen.autotune.verdict import Verdict, verdict
from attngen.codegen import cache_place

SHIPPED = Path(__file__).with_name("tables")
FOLDER = "tuning"
FAR = 2
"""Powers of two, over lengths and share together, within which what was learned for other sizes is a hint."""
log = logging.getLogger("attngen.autotune")
_loaded: dict[tuple[str, str], Database] = {}
_told: set[str] = set()


@dataclass(frozen=True, slots=True)
class Found:
    """What the database says of a call. `exact`: it was measured for these sizes, else for some nearby."""

    verdict: Verdict
    key: Key
    exact: bool


@dataclass(slots=True)
class Database:
    """The verdicts of one device by their keys, and the files that they come from."""

    device: str
    heads: dict[Head, dict[Sizes, Verdict]] = field(default_factory=dict)

    def look_up(self, head: Head, sizes: Callable[[], Sizes]) -> Found | None:
        """What is known about a call; its sizes are only asked for where something of its kind was measured."""
        known = self.heads.get(head)
        if known is None:
            return None
        wanted = sizes()
        exact = known.get(wanted)
        if exact is not None:
            return Found(exact, Key(head, wanted), True)
        near = min(known, key=lambda each: (_distance(each, wanted), each))
        return Found(known[near], Key(head, near), False) if _distance(near, wanted) <= FAR else None


def _distance(one: Sizes, other: Sizes) -> int:
    if (one.share == UNKNOWN) != (other.share == UNKNOWN):
        return FAR + 1
    lengths = sum(abs(a.bit_length() - b.bit_length()) for a, b in zip(one[:2], other[:2], strict=True))
    return lengths + abs(one.share - other.share)


def database(device: str, versions: Callable[[], Mapping[str, str]]) -> Database:
    """The database of a device, where these versions build; read when it is first asked for."""
    place = os.environ.get("ATTNGEN_CACHE_DIR", ""), device
    found = _loaded.get(place)
    if found is None:
        found = _loaded[place] = gather(device, every_table(), versions)
    return found


def forget() -> None:
    """Has the next look-up read the files again."""
    _loaded.clear()


def user_folder() -> Path:
    """Where this user's samples are. It need not exist."""
    return cache_place.configured() / FOLDER


def folder_to_write() -> Path:
    """Where samples of this user go, as `cache_place.writable` says."""
    return cache_place.writable() / FOLDER


def every_table() -> list[files.Table]:
    """The shipped tables and the user's own."""
    folders = (SHIPPED, *(root / FOLDER for root in cache_place.readable()))
    return [table for folder in folders for table in files.tables(folder)]


def gather(device: str, tables: Iterable[files.Table], versions: Callable[[], Mapping[str, str]]) -> Database:
    """The database of a device out of these tables: what cannot be read is named once, and skipped."""
    samples: dict[Key, dict[Sample, None]] = {}
    for table in tables:
        for problem in table.problems:
            message = f"{table.path}: {problem}"
            if message not in _told:
                _told.add(message)
                log.warning("the tuning table %s", message)
        if table.device == device:
            for sample in table.samples:
                samples.setdefault(sample.key, {})[sample] = None
    found = Database(device)
    if not samples:
        return found
    here = versions()
    for key, those in samples.items():
        said = verdict(those, here)
        if said is not None:
            found.heads.setdefault(key.head, {})[key.sizes] = said
    return found


def add(device: str, samples: Iterable[Sample]) -> Path:
    """Keeps samples in the user's file of a device, and has the next look-up see them."""
    path = files.append(folder_to_write(), device, samples)
    forget()
    return path


def mode(given: settings.AutotuneMode | None = None) -> settings.AutotuneMode:
    """What is done about configs: as told, or as ATTNGEN_AUTOTUNE says. Raises `InputError` for a wrong value."""
    if given is not None:
        return given
    told = os.environ.get("ATTNGEN_AUTOTUNE")
    return "cached" if not told else settings.current().autotune
