"""Where in the user's code an expression was written: file, line, columns and text, from the running frame."""

from __future__ import annotations

import linecache
import sys
from itertools import islice
from types import CodeType, FrameType, TracebackType

from attngen.errors import Source

MARK = "__attngen_tracer__"
"""A global of every function under trace: frames that hold it run the user's code."""


def current() -> Source | None:
    """The expression of the user's code that runs now."""
    frame: FrameType | None = sys._getframe(1)
    library: FrameType | None = None
    while frame is not None:
        if MARK in frame.f_globals:
            if not _of_library(frame.f_code.co_filename):
                return _at(frame.f_code, frame.f_lasti, frame.f_lineno)
            library = library or frame
        frame = frame.f_back
    return None if library is None else _at(library.f_code, library.f_lasti, library.f_lineno)


def of_traceback(traceback: TracebackType | None) -> Source | None:
    """The innermost line of the user's code that an exception passed."""
    found: Source | None = None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if MARK in traceback.tb_frame.f_globals and not _of_library(code.co_filename):
            found = _at(code, traceback.tb_lasti, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found


def of_code(code: CodeType) -> Source:
    """The line on which a function starts: the lambda, or its `def`."""
    line = code.co_firstlineno
    text = _line(code.co_filename, line)
    if code.co_name == "<lambda>":
        body = [(c, e) for n, _, c, e in code.co_positions() if n == line and c is not None and e]
        start = text.rfind("lambda", 0, _characters(text, min(body)[0])) if body else -1
        if start >= 0:
            return Source(code.co_filename, line, start + 1, _characters(text, max(e for _, e in body)) + 1, text)
    while text.lstrip().startswith("@"):
        line += 1
        text = _line(code.co_filename, line)
    return _source(code.co_filename, line, line, None, None)


def of_line(file: str, line: int) -> Source:
    """A whole line of a file, where no more is known."""
    return _source(file, line, line, None, None)


def returns(code: CodeType) -> Source:
    """The last `return` of a function, or the line on which it starts."""
    import dis

    found = before = None
    for instruction in dis.get_instructions(code):
        place = instruction.positions
        if place is not None and place.lineno is not None and place.end_col_offset:
            before = (place.lineno, place.end_lineno, place.col_offset, place.end_col_offset)
        # The return of a lambda has no width: the instruction before it is the value.
        if instruction.opname in ("RETURN_VALUE", "RETURN_CONST"):
            found = before
    return of_code(code) if found is None else _source(code.co_filename, *found)


def _of_library(file: str) -> bool:
    return "/torch/" in file and "site-packages" in file


def _at(code: CodeType, instruction: int, line: int) -> Source:
    place = max(0, instruction) // 2
    start, end, column, end_column = next(islice(code.co_positions(), place, None), (line, None, None, None))
    return _source(code.co_filename, start or line, end, column, end_column)


def _source(file: str, line: int, end: int | None, column: int | None, end_column: int | None) -> Source:
    text = _line(file, line)
    if not text:
        return Source(file, line, (column or 0) + 1, (column or 0) + 2, "")
    if column is None or end_column is None:
        indent = len(text) - len(text.lstrip())
        return Source(file, line, indent + 1, len(text) + 1, text)
    first = _characters(text, column)
    last = len(text) if end is not None and end != line else _characters(text, end_column)
    return Source(file, line, first + 1, max(last, first + 1) + 1, text)


def _line(file: str, line: int) -> str:
    return linecache.getline(file, line).rstrip("\n").replace("\t", " ")


def _characters(text: str, offset: int) -> int:
    """Positions count bytes of UTF-8."""
    return len(text.encode()[:offset].decode(errors="replace"))
