"""Turns a compiler's output into a message that shows the generated line."""

from __future__ import annotations

import re
import signal

_LOCATION = re.compile(r"^(?:In file included from )?(?P<file>[^\s:][^:]*):(?P<line>\d+)(?::(?P<column>\d+))?[:,]")
_ERROR = re.compile(r"(?:^|\s)(?:fatal |internal compiler )?error: (?P<text>.*)$")
_AROUND = 3


def explain(code: int, output: str, source: str, name: str) -> str:
    """The first error of `output`, with the lines of `source` (compiled from a file called `name`) around it."""
    lines = output.splitlines()
    first = next((number for number, line in enumerate(lines) if _ERROR.search(line)), None)
    if first is None:
        return _without_error(code, lines)
    match = _ERROR.search(lines[first])
    text = match["text"] if match else lines[first]
    place = _place(lines, first, name)
    message = f"the C++ compiler refused the generated source: {text}"
    return f"{message}\n{_said(lines) if place is None else _excerpt(source, name, *place)}"


def _said(lines: list[str]) -> str:
    return "\n".join(f"    {line}" for line in lines[-10:]) or "    (it said nothing)"


def _without_error(code: int, lines: list[str]) -> str:
    said = _said(lines)
    if code < 0:
        return f"the C++ compiler was killed by {signal.Signals(-code).name} (out of memory?):\n{said}"
    return f"the C++ compiler failed with exit status {code}:\n{said}"


def _place(lines: list[str], first: int, name: str) -> tuple[int, int] | None:
    """Line and column in the generated file. An error inside a header counts where the generated file leads to it."""
    before, after = lines[:first], lines[first + 1 :]
    # g++ says "required from here" ahead of an error in a template; the notes behind it may point to declarations.
    required = [line for line in reversed(before) if "required from" in line]
    for line in (lines[first], *required, *after, *reversed(before)):
        match = _LOCATION.match(line.replace("                 from ", ""))
        if match is not None and match["file"].rpartition("/")[2] == name:
            return int(match["line"]), int(match["column"] or 0)
    return None


def _excerpt(source: str, name: str, line: int, column: int) -> str:
    texts = source.splitlines()
    start, stop = max(1, line - _AROUND), min(len(texts), line + _AROUND)
    width = len(str(stop))
    shown = [f"  {name}, line {line}:"]
    for number in range(start, stop + 1):
        mark = ">" if number == line else " "
        shown.append(f"  {mark} {number:>{width}} | {texts[number - 1]}")
        if number == line and column:
            shown.append(f"    {' ' * width} | {' ' * (column - 1)}^")
    return "\n".join(shown)
