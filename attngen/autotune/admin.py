"""What `attngen db` does: files of samples shown, carried to other machines, put together, compared and cleared out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attngen.autotune import database, files
from attngen.autotune.key import Key
from attngen.autotune.sample import Sample, line
from attngen.autotune.verdict import Verdict, verdict
from attngen.errors import InputError

Versions = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a device: the name that its specs had, its samples, and what they say together."""

    key: Key
    name: str
    samples: tuple[Sample, ...]
    verdict: Verdict


def entries(samples: Iterable[Sample], versions: Callable[[Key], Versions] | None = None) -> tuple[Entry, ...]:
    """The keys of the samples of one device. `versions`: those that are here; without, the newest ones there are."""
    found: dict[Key, dict[Sample, None]] = {}
    for sample in samples:
        found.setdefault(sample.key, {})[sample] = None
    return tuple(_entry(key, tuple(those), versions) for key, those in sorted(found.items()))


def _entry(key: Key, samples: tuple[Sample, ...], versions: Callable[[Key], Versions] | None) -> Entry:
    newest = max(samples, key=lambda sample: sample.when)
    said = verdict(samples, newest.versions if versions is None else versions(key))
    assert said is not None
    return Entry(key, newest.name, samples, said)


def devices(tables: Iterable[files.Table]) -> dict[str, tuple[Sample, ...]]:
    """The samples of each device, each once."""
    found: dict[str, dict[Sample, None]] = {}
    for table in tables:
        if table.device is not None:
            found.setdefault(table.device, {}).update(dict.fromkeys(table.samples))
    return {device: tuple(samples) for device, samples in found.items()}


def read(path: Path) -> files.Table:
    """The table in a file. Raises `InputError` where it is none: what is asked for by name is not skipped."""
    found = files.load(path)
    if found.device is None:
        raise InputError(f"{path}: {'; '.join(found.problems)}")
    return found


def one_device(tables: Iterable[files.Table], asked: str | None) -> tuple[str, tuple[Sample, ...]]:
    """The device of the tables and its samples; `asked` is a part of its name, where there are several."""
    known = devices(tables)
    chosen = [device for device in known if asked is None or asked.lower() in device.lower()]
    if len(chosen) != 1:
        there = "; ".join(known) or "none"
        what = "no device" if not chosen else f"{len(chosen)} devices"
        raise InputError(f"--device: got {asked or 'nothing'}, which names {what}; there are: {there}")
    return chosen[0], known[chosen[0]]


def export(path: Path, device: str | None, tables: Iterable[files.Table] | None = None) -> tuple[str, int]:
    """Writes the samples of a device into a new file; gives the device, and how many there are."""
    name, samples = one_device(database.every_table() if tables is None else tables, device)
    if path.exists():
        raise InputError(f"{path}: exists, and is not written over; give another name")
    try:
        path.write_text("".join(f"{each}\n" for each in (files.header(name), *map(line, ordered(samples)))))
    except OSError as problem:
        raise InputError(f"{path}: cannot be written: {problem.strerror or problem}") from problem
    return name, len(samples)


def ordered(samples: Iterable[Sample]) -> list[Sample]:
    """In an order in which the same samples make the same file."""
    return sorted(samples, key=lambda s: (s.key, s.when, s.config, s.ratio))


def take_in(path: Path) -> tuple[str, int, int]:
    """Adds what a file has to the user's own; gives its device, how many samples are new, and how many it has."""
    table = read(path)
    assert table.device is not None
    folder = database.folder_to_write()
    there = devices(files.tables(folder)).get(table.device, ())
    new = [sample for sample in dict.fromkeys(table.samples) if sample not in there]
    if new:
        database.add(table.device, new)
    return table.device, len(new), len(table.samples)


def diff(one: Path, other: Path) -> Iterator[tuple[Key, Entry | None, Entry | None]]:
    """The keys about which two files say different things."""
    sides = []
    for path in (one, other):
        sides.append({entry.key: entry for entry in entries(read(path).samples)})
    for key in sorted({*sides[0], *sides[1]}):
        a, b = sides[0].get(key), sides[1].get(key)
        if a is None or b is None or a.verdict.config != b.verdict.config:
            yield key, a, b


def prune(
    *, older_than: int | None = None, stale: Callable[[Key], Versions] | None = None, keep: int | None = None
) -> list[tuple[Path, int]]:
    """Takes samples out of the user's files: older than so many days, of other versions than those that are here, all
    but the newest `keep` of each key and config. Gives the files, and how many went of each."""
    folder, gone = database.folder_to_write(), []
    for table in list(files.tables(folder)):
        if table.device is not None:
            leaves = _leaving(table.samples, older_than, stale, keep)
            stays = (frozenset(table.samples) - leaves).__contains__
            gone.append((table.path, files.rewrite(folder, table.path, stays) if leaves else 0))
    database.forget()
    return gone


def _leaving(
    samples: tuple[Sample, ...], older_than: int | None, stale: Callable[[Key], Versions] | None, keep: int | None
) -> set[Sample]:
    found: set[Sample] = set()
    if older_than is not None:
        last = datetime.now(UTC) - timedelta(days=older_than)
        found |= {sample for sample in samples if sample.when < last}
    if stale is not None:
        found |= {sample for sample in samples if dict(sample.versions) != dict(stale(sample.key))}
    if keep is not None:
        groups: dict[tuple[Key, str], list[Sample]] = {}
        for sample in samples:
            groups.setdefault((sample.key, sample.config), []).append(sample)
        for group in groups.values():
            found |= set(sorted(group, key=lambda sample: sample.when)[: max(0, len(group) - keep)])
    return found
