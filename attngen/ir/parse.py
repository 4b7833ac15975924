"""Parses the text form of a Spec: the inverse of `attngen.ir.text`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

from attngen.errors import ParseError
from attngen.ir.expr import Expr, const, sym
from attngen.ir.lexer import Cursor
from attngen.ir.nodes import (
    Affine,
    Branch,
    Combine,
    Concat,
    Dot,
    Given,
    Grid,
    Input,
    KeySet,
    Paged,
    PooledTopK,
    Project,
    Router,
    Segments,
    Sequence,
    Space,
    Spec,
    View,
    default_scale,
)
from attngen.ir.normalizer import Chained, Normalizer, Ordered, Scores, Streaming, Threshold
from attngen.ir.ops import RANK, Type
from attngen.ir.parse_expr import expression, parse_expr

__all__ = ["ParseError", "parse", "parse_expr"]

T = TypeVar("T")


def parse(text: str, file: str = "<text>") -> Spec:
    """The Spec of a text form: `parse(text(spec)) == spec`. Raises `ParseError` with line, column and caret.

    Written by hand, a branch may leave out what has a default: q, k, v, scale, mask and score. `#` starts a comment.
    """
    return _Parser(Cursor(text, file)).spec()


class _Parser:
    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.types: dict[str, Type] = {}

    def fields(self, block: str, known: tuple[str, ...], blocks: tuple[str, ...] = ()) -> Iterator[str]:
        """The field names of a block as they come. Those in `blocks` may repeat and stand without a colon."""
        opening = self.cursor.expect("{", f" to open the {block}")
        seen: set[str] = set()
        while not self.cursor.take("}"):
            token = self.cursor.next()
            if token.kind == "end":
                self.cursor.fail(f"the {block} is not closed: '}}' is missing", opening)
            if token.text not in known and token.text not in blocks:
                self.cursor.unknown(f"field of the {block}", token, [*known, *blocks])
            if token.text in seen:
                self.cursor.fail(f"{token.text!r} is given twice", token)
            if token.text not in blocks:
                seen.add(token.text)
                self.cursor.expect(":", f" after {token.text!r}")
            yield token.text

    def expr(self) -> Expr:
        return expression(self.cursor, self.types)

    def listed(self, item: Callable[[], T], closing: str) -> tuple[T, ...]:
        """Items up to the closing mark, with commas between them."""
        found: list[T] = []
        while not self.cursor.take(closing):
            if found:
                self.cursor.expect(",", f" or {closing!r}")
            found.append(item())
        return tuple(found)

    def spec(self) -> Spec:
        cursor = self.cursor
        cursor.expect("spec", " at the beginning")
        name = cursor.name("the name of the spec")
        cursor.expect("over", " after the name")
        space = self.space()
        inputs: list[Input] = []
        routers: list[Router] = []
        branches: list[Branch] = []
        combine: Combine = Affine((const(1.0),))
        for field in self.fields("spec", ("combine",), ("input", "router", "branch")):
            match field:
                case "input":
                    inputs.append(self.input())
                case "router":
                    routers.append(self.router())
                case "branch":
                    branches.append(self.branch())
                case _:
                    combine = self.combine()
        if cursor.token.kind != "end":
            cursor.fail(f"expected the end after the spec, found {cursor.describe(cursor.token)}")
        return Spec(tuple(branches), space, tuple(inputs), tuple(routers), combine, name)

    def space(self) -> Space:
        cursor, token = self.cursor, self.cursor.next()
        match token.text:
            case "sequence":
                return Sequence()
            case "grid":
                cursor.expect("(")
                return Grid(self.listed(lambda: cursor.integer("a dimension"), ")"))
            case "segments":
                cursor.expect("(")
                names = self.listed(lambda: cursor.name("an input of offsets"), ")")
                if len(names) != 2:
                    cursor.fail("segments takes two names: the offsets of the queries and of the keys", token)
                return Segments(*names)
            case "paged":
                cursor.expect("(")
                page = cursor.integer("the page size")
                cursor.expect(",")
                table = cursor.name("the input of the page table")
                cursor.expect(",")
                lengths = cursor.name("the input of the lengths")
                cursor.expect(")")
                return Paged(page, table, lengths)
        return cursor.unknown("space", token, ["sequence", "grid", "segments", "paged"])

    def input(self) -> Input:
        cursor = self.cursor
        name = cursor.name("the name of the input")
        axes = self.listed(lambda: "?" if cursor.take("?") else cursor.name("an axis"), "]") if cursor.take("[") else ()
        cursor.expect(":", " and the type of the input")
        token = cursor.next()
        kind = next((t for t in RANK if t == token.text), None)
        if kind is None:
            cursor.unknown("type", token, list(RANK))
        self.types[name] = kind
        return Input(name, axes, kind, cursor.take("grad"))

    def router(self) -> Router:
        cursor = self.cursor
        name = cursor.name("the name of the router")
        cursor.expect("(")
        blocks = self.listed(lambda: cursor.integer("a block size"), ")")
        if len(blocks) != 2:
            cursor.fail("a router takes two block sizes: of queries and of keys")
        cursor.expect("=")
        token = cursor.next()
        rule: PooledTopK | Given
        if token.text == "pooled_topk":
            cursor.expect("(")
            top = cursor.number("the top share")
            bottom = cursor.number("the bottom share") if cursor.take(",") else 0.0
            rule = PooledTopK(top, bottom, cursor.take(",") and bool(cursor.expect("smooth_k")))
        elif token.text == "given":
            cursor.expect("(")
            rule = Given(cursor.name("the input of the table"))
        else:
            cursor.unknown("rule of a router", token, ["pooled_topk", "given"])
        cursor.expect(")")
        self.types[name] = "int"
        return Router(name, *blocks, rule)

    def branch(self) -> Branch:
        opening = self.cursor.token
        keys = _Keys()
        keysets: list[KeySet] = []
        weight: Expr | None = None
        decay: str | None = None
        normalizer: Normalizer | None = None
        for field in self.fields("branch", (*_KEYS, "weight", "decay", "normalizer"), ("dot", "keys")):
            match field:
                case "keys":
                    keysets.append(self.keys())
                case "weight":
                    weight = self.expr()
                case "decay":
                    decay = self.cursor.name("the input of log decays")
                case "normalizer":
                    normalizer = self.normalizer()
                case _:
                    self.key_field(field, keys)
        if normalizer is None:
            self.cursor.fail("the branch has no 'normalizer'", opening)
        main = keys.keyset()
        return Branch(normalizer, main.dots, main.v, main.mask, main.score, main.join, tuple(keysets), weight, decay)

    def keys(self) -> KeySet:
        keys = _Keys()
        for field in self.fields("keys", _KEYS, ("dot",)):
            self.key_field(field, keys)
        return keys.keyset()

    def key_field(self, field: str, keys: _Keys) -> None:
        match field:
            case "dot":
                keys.dots.append(self.dot())
            case "dots":
                self.cursor.expect("none")
                keys.empty = True
            case "v" | "q" | "k":
                keys.views[field] = self.view()
            case _:
                keys.exprs[field] = self.expr()

    def dot(self) -> Dot:
        keys = _Keys()
        for field in self.fields("dot", ("q", "k", "scale")):
            self.key_field(field, keys)
        return keys.dot()

    def view(self) -> View:
        cursor = self.cursor
        tensor = cursor.name("a tensor")
        parts: dict[str, Expr] = {}

        def part() -> None:
            token = cursor.next()
            if token.text not in ("head", "start", "stop", "feature"):
                cursor.unknown("part of a view", token, ["head", "start", "stop", "feature"])
            if token.text in parts:
                cursor.fail(f"{token.text!r} is given twice", token)
            cursor.expect(":", f" after {token.text!r}")
            parts[token.text] = self.expr()

        if cursor.take("("):
            self.listed(part, ")")
        return View(tensor, parts.get("head"), parts.get("start"), parts.get("stop"), parts.get("feature"))

    def normalizer(self) -> Normalizer:
        cursor, token = self.cursor, self.cursor.next()
        known = ["streaming", "chained", "threshold", "ordered"]
        if token.text not in known:
            cursor.unknown("kind of normalizer", token, known)
        name = cursor.name("the name of the normalizer")
        match token.text:
            case "streaming":
                return self.streaming(name)
            case "chained":
                passes: list[Streaming] = []
                for _ in self.fields("chained normalizer", (), ("streaming",)):
                    passes.append(self.streaming(cursor.name("the name of the pass")))
                return Chained(name, tuple(passes))
            case "threshold":
                cursor.expect("(")
                alpha = cursor.number("alpha")
                cursor.expect(")")
                return Threshold(name, alpha)
        return self.ordered(name)

    def streaming(self, name: str) -> Streaming:
        opening = self.cursor.token
        parts: dict[str, Expr] = {}
        offset = 0.0
        scores: Scores = "real"
        for field in self.fields("normalizer", ("scores", "phi", "psi", "anchor", "offset", "sink", "finalize", "lse")):
            if field == "offset":
                offset = self.cursor.number("the offset")
            elif field == "scores":
                scores = self.scores()
            else:
                parts[field] = self.expr()
        for needed in ("phi", "finalize"):
            if needed not in parts:
                self.cursor.fail(f"the normalizer has no {needed!r}", opening)
        get = parts.get
        return Streaming(
            name, parts["phi"], parts["finalize"], get("psi"), get("anchor"), offset, get("sink"), get("lse"), scores
        )

    def scores(self) -> Scores:
        token = self.cursor.next()
        if token.text == "nonnegative":
            return "nonnegative"
        return "real" if token.text == "real" else self.cursor.unknown("kind of scores", token, ["real", "nonnegative"])

    def ordered(self, name: str) -> Ordered:
        opening = self.cursor.token
        parts: dict[str, Expr] = {}
        direction: Literal["backward", "forward"] | None = None
        for field in self.fields("normalizer", ("direction", "weight", "log_keep")):
            if field != "direction":
                parts[field] = self.expr()
                continue
            token = self.cursor.next()
            direction = "backward" if token.text == "backward" else "forward" if token.text == "forward" else None
            if direction is None:
                self.cursor.unknown("direction", token, ["backward", "forward"])
        if direction is None or len(parts) < 2:
            self.cursor.fail("an ordered normalizer has 'direction', 'weight' and 'log_keep'", opening)
        return Ordered(name, direction, parts["weight"], parts["log_keep"])

    def combine(self) -> Combine:
        cursor, token = self.cursor, self.cursor.next()
        match token.text:
            case "affine":
                cursor.expect("(")
                return Affine(self.listed(self.expr, ")"))
            case "project":
                cursor.expect("(")
                return Project(self.listed(lambda: None if cursor.take("none") else cursor.name("an input"), ")"))
            case "concat":
                return Concat()
        return cursor.unknown("combination", token, ["affine", "concat", "project"])


_KEYS = ("q", "k", "scale", "dots", "v", "mask", "join", "score")


class _Keys:
    """What a key set gathers while its fields come in any order."""

    def __init__(self) -> None:
        self.dots: list[Dot] = []
        self.empty = False
        self.views: dict[str, View] = {}
        self.exprs: dict[str, Expr] = {}

    def dot(self) -> Dot:
        return Dot(
            self.views.get("q", View("q")), self.views.get("k", View("k")), self.exprs.get("scale") or default_scale()
        )

    def keyset(self) -> KeySet:
        dots = () if self.empty else tuple(self.dots) or (self.dot(),)
        return KeySet(
            dots,
            self.views.get("v", View("v")),
            self.exprs.get("mask") or const(True),
            self.exprs.get("score") or sym("score"),
            self.exprs.get("join"),
        )
