"""What attngen logs, on the terminal while a command runs: each message once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from attngen import settings


class Terminal(logging.Handler):
    """Prints records to standard error; the same message only the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = f"{record.levelname.lower()}: {record.getMessage()}"
        if message not in self.seen:
            self.seen.add(message)
            typer.echo(message, err=True)


@contextmanager
def logged() -> Iterator[None]:
    """Shows the log at the level of the settings, and leaves the logger as it was."""
    log = logging.getLogger("attngen")
    before = log.level, log.propagate
    handler = Terminal()
    log.setLevel(settings.current().log)
    log.propagate = False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]
