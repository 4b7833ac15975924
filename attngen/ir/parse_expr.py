"""Parses the text form of an expression, by climbing the precedences of `attngen.ir.text_expr`."""

from __future__ import annotations

from collections.abc import Mapping

from attngen.errors import ParseError, SpecError
from attngen.ir.expr import SYMBOLS, Expr, const, load, op, sym
from attngen.ir.lexer import Cursor, Token
from attngen.ir.ops import INFIX, OPERATORS, RANK, Type
from attngen.ir.text_expr import COMPARISON, LEVEL, NOT, RESERVED, UNARY

NAMES = {mark: name for name, mark in INFIX.items()}
NESTING = 120
"""How deep a text may nest. The printer binds deep nodes by `let`, so only texts written by hand can exceed it."""


def parse_expr(text: str, types: Mapping[str, Type] | None = None, file: str = "<text>") -> Expr:
    """The expression of a text. `types` gives the inputs that it may load; None allows any name, taken as float.

    Raises `ParseError` with line, column and caret.
    """
    cursor = Cursor(text, file)
    expr = expression(cursor, types)
    if cursor.token.kind != "end":
        cursor.fail(f"expected an operator or the end, found {cursor.describe(cursor.token)}")
    return expr


def expression(cursor: Cursor, types: Mapping[str, Type] | None) -> Expr:
    """Takes the expression at the cursor, with the `let` bindings before it."""
    return _Parser(cursor, types).lets()


class _Parser:
    def __init__(self, cursor: Cursor, types: Mapping[str, Type] | None) -> None:
        self.cursor = cursor
        self.types = types
        self.bound: dict[str, Expr] = {}
        self.depth = 0

    def lets(self) -> Expr:
        while self.cursor.take("let"):
            name = self.cursor.name("the name of a binding")
            self.cursor.expect("=")
            value = self.infix(0)
            self.cursor.expect("in", " after the binding")
            self.bound[name] = value
        return self.infix(0)

    def infix(self, level: int) -> Expr:
        """An expression whose operators all bind at least as tightly as `level`."""
        first = self.cursor.token
        self.depth += 1
        if self.depth > NESTING:
            self.cursor.fail(f"nested more than {NESTING} levels deep; bind parts with `let name = ... in`", first)
        left = self.prefix()
        while (name := self._operator()) is not None and LEVEL[name] >= level:
            own = LEVEL[name]
            mark = self.cursor.next()
            right = self.infix(UNARY if name == "pow" else own + 1)
            if own == COMPARISON and (following := self._operator()) and LEVEL[following] == COMPARISON:
                self.cursor.fail("comparisons do not chain; write `a < b and b < c`")
            left = self._op(name, (left, right), first, mark)
        self.depth -= 1
        return left

    def _operator(self) -> str | None:
        token = self.cursor.token
        return NAMES.get(token.text) if token.kind in ("mark", "word") else None

    def prefix(self) -> Expr:
        first = self.cursor.token
        if self.cursor.take("not"):
            return self._op("not", (self.infix(NOT),), first)
        if not self.cursor.take("-"):
            return self.atom()
        number = self.cursor.token.kind == "number" or self.cursor.at("inf", "nan")
        if number and self.cursor.peek().text != "**":
            return self.literal(-1)
        return self._op("neg", (self.infix(UNARY),), first)

    def literal(self, sign: int = 1) -> Expr:
        token = self.cursor.next()
        if token.kind == "number" and token.text.isdigit():
            return const(sign * self.cursor.whole(token), self.cursor.source(token))
        return const(sign * float(token.text), self.cursor.source(token))

    def atom(self) -> Expr:
        cursor, token = self.cursor, self.cursor.token
        if token.kind == "number" or cursor.at("inf", "nan"):
            return self.literal()
        if cursor.take("("):
            inner = self.infix(0)
            cursor.expect(")")
            return inner
        if token.kind == "string":
            return self.load(cursor.next())
        if token.kind != "word":
            cursor.fail(f"expected an expression, found {cursor.describe(token)}")
        cursor.next()
        if token.text in ("true", "false"):
            return const(token.text == "true", cursor.source(token))
        if token.text in RANK and cursor.take(":"):
            return self.load(cursor.next(), next(t for t in RANK if t == token.text))
        if token.text in self.bound:
            return self.bound[token.text]
        if cursor.at("(") and token.text in OPERATORS:
            return self.call(token)
        indexed = f"{token.text}[{cursor.peek().text}]"
        if cursor.at("[") and indexed in SYMBOLS and cursor.peek(2).text == "]":
            last = [cursor.next() for _ in range(3)][-1]
            return sym(indexed, cursor.source(token, last))
        if token.text in SYMBOLS:
            return sym(token.text, cursor.source(token))
        if token.text in RESERVED or token.text in OPERATORS:
            cursor.fail(f"{token.text!r} is not an expression", token)
        return self.load(token)

    def call(self, token: Token) -> Expr:
        args = self.items("(", ")")
        return self._op(token.text, args, token)

    def items(self, opening: str, closing: str) -> tuple[Expr, ...]:
        self.cursor.expect(opening)
        found = [self.infix(0)]
        while self.cursor.take(","):
            found.append(self.infix(0))
        self.cursor.expect(closing)
        return tuple(found)

    def load(self, token: Token, type: Type | None = None) -> Expr:
        cursor = self.cursor
        if token.kind not in ("word", "string"):
            cursor.fail(f"expected the name of an input, found {cursor.describe(token)}", token)
        name = cursor.quoted(token) if token.kind == "string" else token.text
        if type is None:
            if self.types is not None and name not in self.types:
                cursor.unknown("name", token, [*self.types, *self.bound], [*SYMBOLS, *OPERATORS])
            type = self.types[name] if self.types is not None else "float"
        indices = self.items("[", "]") if cursor.at("[") else ()
        try:
            return load(name, indices, type, cursor.source(token))
        except SpecError as error:
            raise self._located(error, token) from None

    def _op(self, name: str, args: tuple[Expr, ...], first: Token, mark: Token | None = None) -> Expr:
        last = self.cursor.tokens[self.cursor.index - 1]
        try:
            return op(name, *args, source=self.cursor.source(first, last))
        except SpecError as error:
            raise self._located(error, mark or first) from None

    def _located(self, error: SpecError, token: Token) -> ParseError:
        source = self.cursor.source(token)
        return ParseError(f"line {source.line}, column {source.column}: {error.message}", source=source)
