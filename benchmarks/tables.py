"""What a run found, printed and written: tables and notes as Markdown, every figure as JSON."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from attngen.codegen.backends.cpu import isa
from benchmarks.peak import Peak

console = Console(width=140)


@dataclass
class Results:
    """What one run found, ready for JSON."""

    machine: str
    isa: str
    threads: int
    torch: str
    commit: str
    command: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    other: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, command: str, peak: Peak) -> Results:
        """Nothing yet, of this machine and this commit."""
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        return cls(isa.identity(), peak.isa, peak.threads, torch.__version__, commit.stdout.strip(), command)

    @property
    def place(self) -> str:
        """The note on where and with what the figures were found."""
        return (
            f"machine: {self.machine}; {self.threads} threads; {self.isa}; torch {self.torch}; "
            f"commit {self.commit or 'unknown'}"
        )


@dataclass
class Section:
    """One table of a run; lines are printed as they come."""

    title: str
    header: list[str]
    lines: list[list[str]] = field(default_factory=list)

    def add(self, line: list[str]) -> None:
        """Prints the line and keeps it."""
        console.print("  ".join(line))
        self.lines.append(line)

    def markdown(self) -> str:
        """The table in Markdown."""
        rule = ["---"] * len(self.header)
        return "\n".join("| " + " | ".join(cells) + " |" for cells in (self.header, rule, *self.lines))


def show(sections: list[Section], notes: list[str]) -> None:
    """Prints the tables and the notes."""
    for section in sections:
        shown = Table(*section.header, title=section.title, title_justify="left")
        for line in section.lines:
            shown.add_row(*line)
        console.print(shown)
    console.print("\n".join(notes))


def write(folder: Path, name: str, results: Results, sections: list[Section], notes: list[str]) -> None:
    """Writes FOLDER/NAME.json and FOLDER/NAME.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(asdict(results), indent=2) + "\n", encoding="utf-8")
    titles = [f"## {s.title}\n\n" if len(sections) > 1 else "" for s in sections]
    parts = [title + s.markdown() for title, s in zip(titles, sections, strict=True)]
    parts = [f"`{results.command}`", *parts, "\n".join(f"- {note}" for note in notes)]
    (folder / f"{name}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
