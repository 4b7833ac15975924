"""Cuts a text form into tokens and walks over them; every complaint carries the line, the column and a caret."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

from attngen.errors import ParseError, Source

TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
      | (?P<number>(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?)
      | (?P<word>[A-Za-z_][A-Za-z_0-9]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<mark>\*\*|//|<<|>>|<=|>=|==|!=|[-+*/%<>=(){}\[\],:?])""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is number, word, string, mark or end; `start` counts characters from the beginning of the text."""

    kind: str
    text: str
    start: int


class Cursor:
    """A position in the tokens of a text."""

    def __init__(self, text: str, file: str = "<text>") -> None:
        self.text = text
        self.file = file
        self.lines = text.splitlines(keepends=True) or [""]
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))
        self.tokens = list(self._cut())
        self.index = 0

    def _cut(self) -> Iterator[Token]:
        at = 0
        while at < len(self.text):
            match = TOKEN.match(self.text, at)
            if match is None:
                self.fail(f"unexpected character {self.text[at]!r}", Token("mark", self.text[at], at))
            if match.lastgroup != "space":
                yield Token(match.lastgroup or "", match.group(), at)
            at = match.end()
        yield Token("end", "", len(self.text))

    @property
    def token(self) -> Token:
        return self.tokens[self.index]

    def peek(self, ahead: int = 1) -> Token:
        """The token after the next, or the end."""
        return self.tokens[min(self.index + ahead, len(self.tokens) - 1)]

    def next(self) -> Token:
        """Takes a token."""
        token = self.token
        self.index = min(self.index + 1, len(self.tokens) - 1)
        return token

    def at(self, *texts: str) -> bool:
        """Whether the next token is one of these marks or words."""
        return self.token.kind in ("mark", "word") and self.token.text in texts

    def take(self, text: str) -> bool:
        """Takes the mark or word if it is next."""
        if self.at(text):
            self.next()
            return True
        return False

    def expect(self, text: str, where: str = "") -> Token:
        """Takes the mark or word, or fails."""
        if not self.at(text):
            self.fail(f"expected {text!r}{where}, found {self.describe(self.token)}")
        return self.next()

    def name(self, what: str) -> str:
        """Takes a bare or quoted name."""
        token = self.token
        if token.kind == "word":
            return self.next().text
        if token.kind != "string":
            self.fail(f"expected {what}, found {self.describe(token)}")
        return self.quoted(self.next())

    def quoted(self, token: Token) -> str:
        """The name that a string token spells."""
        try:
            return str(json.loads(token.text))
        except ValueError:
            self.fail(f"not a quoted name: {token.text}", token)

    def number(self, what: str) -> float:
        """Takes a number; `inf`, `nan` and a sign are numbers too."""
        sign = -1.0 if self.take("-") else 1.0
        if self.token.kind != "number" and not self.at("inf", "nan"):
            self.fail(f"expected {what}, found {self.describe(self.token)}")
        return sign * float(self.next().text)

    def integer(self, what: str) -> int:
        """Takes a whole number."""
        sign = -1 if self.take("-") else 1
        token = self.next()
        if token.kind != "number" or not token.text.isdigit():
            self.fail(f"expected {what}, a whole number, found {self.describe(token)}", token)
        return sign * self.whole(token)

    def whole(self, token: Token) -> int:
        """The value of a token of digits."""
        try:
            return int(token.text)
        except ValueError:
            self.fail(f"a number of {len(token.text)} digits is too long", token)

    def describe(self, token: Token) -> str:
        return "the end of the text" if token.kind == "end" else repr(token.text)

    def source(self, first: Token, last: Token | None = None) -> Source:
        """Where the tokens from the first to the last stand; cut at the end of the first one's line."""
        end = (last or first).start + len((last or first).text)
        line = min(bisect_right(self.starts, first.start) - 1, len(self.lines) - 1)
        shown = self.lines[line].rstrip("\r\n")
        column = first.start - self.starts[line]
        return Source(self.file, line + 1, column + 1, min(end - self.starts[line], len(shown)) + 1, shown)

    def fail(self, message: str, token: Token | None = None) -> NoReturn:
        """Raises `ParseError` with line, column and a caret under the token."""
        source = self.source(token or self.token)
        raise ParseError(f"line {source.line}, column {source.column}: {message}", source=source)

    def unknown(self, what: str, token: Token, known: list[str], others: Iterable[str] = ()) -> NoReturn:
        """Fails on a word that means nothing here, with the nearest one that does; `others` are not listed."""
        near = get_close_matches(token.text, [*known, *others], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known) or 'none'}"
        self.fail(f"unknown {what} {self.describe(token)}{hint}", token)
