"""The journal of a command: one JSON line for each finished measurement, and a mark of the one that is under way."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""place, command, row, config, result."""


class Journal:
    """Lines in a file. A line is there whole or not at all: a last one without its end is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = list(_lines(path))

    def append(self, record: Record) -> None:
        """Writes the line through to the disk, in one piece."""
        self._drop_half_a_line()
        line = (json.dumps(plain(record)) + "\n").encode()
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if os.write(file, line) != len(line):
                raise OSError(f"{self.path}: the disk took half a line")
            os.fsync(file)
        finally:
            os.close(file)
        self.records.append(plain(record))

    def _drop_half_a_line(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb+") as file:
            text = file.read()
            if text and not text.endswith(b"\n"):
                file.truncate(text.rfind(b"\n") + 1)


def _lines(path: Path) -> Iterator[Record]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # cut off, or written by somebody else
            record = json.loads(line)
            if isinstance(record, dict) and "result" in record:
                yield record


class Mark:
    """A file that says what is being tried, for whoever finds the process gone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def set(self, record: Record) -> None:
        written = self.path.with_suffix(".new")
        written.write_text(json.dumps(plain(record)), encoding="utf-8")
        written.replace(self.path)

    def read(self) -> Record | None:
        try:
            found: Record = json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return found

    def age(self) -> float | None:
        """Seconds since it was set."""
        try:
            return time.time() - self.path.stat().st_mtime
        except FileNotFoundError:
            return None

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)


FOLDERS = re.compile(r"(?<![\w.])/(?:[\w.+@-]+/)+")


def plain(value: Any) -> Any:
    """The value as JSON has it: infinity and NaN are words. Messages keep the names of files and not their folders,
    which belong to a machine."""
    match value:
        case str():
            return FOLDERS.sub("", value)
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {str(key): plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case _:
            return value
