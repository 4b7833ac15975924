"""JSON and Markdown of what there is so far; what is missing says so."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu.journal import plain
from benchmarks.gpu.session import Result, Session

MISSING = "not measured"


def table(header: list[str], lines: list[list[str]]) -> str:
    """A table in Markdown."""
    shown = [[cell.replace("|", "\\|") for cell in cells] for cells in lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *shown))


def excuse(result: Result | None) -> str | None:
    """Why there is no figure, or None where there is one."""
    if result is None:
        return MISSING
    for word in ("refused", "failed"):
        if word in result:
            return f"{MISSING}: {word}: {result[word]}"
    return None


def write(session: Session, title: str, parts: list[str], notes: list[str], left: list[str], **more: Any) -> None:
    """Writes OUT/COMMAND.md and OUT/COMMAND.json."""
    options = session.options
    head = [f"# {title}", str(session.place)]
    if session.dry:
        head.append("Dry run: tiny sizes, the interpreter and a clock on the wall. No figure here says anything.")
    if left:
        head.append(f"Left for the next run: {', '.join(left)}.")
    foot = ["\n".join(f"- {note}" for note in notes)] if notes else []
    _replace(options.out / f"{options.command}.md", "\n\n".join([*head, *parts, *foot]) + "\n")
    found = {"place": asdict(session.place), "command": options.command, "dry_run": session.dry, "left": left}
    found |= {"notes": notes, **more}
    _replace(options.out / f"{options.command}.json", json.dumps(plain(found), indent=1) + "\n")


def _replace(path: Path, text: str) -> None:
    written = path.with_name(f"{path.name}.new")
    written.write_text(text, encoding="utf-8")
    written.replace(path)


def spread(sample: dict[str, Any] | None, digits: int = 3) -> str:
    """Median and p20 to p80 in milliseconds."""
    if not sample:
        return MISSING
    return f"{sample['median']:.{digits}f} ({sample['p20']:.{digits}f} - {sample['p80']:.{digits}f})"
