"""`torch.nn.functional.scaled_dot_product_attention`, with all of its arguments."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_letters
from typing import TYPE_CHECKING, Any

from attngen.ir.expr import Expr, const, op, sym
from attngen.lift.blocked import blocked
from attngen.lift.elements import Elements
from attngen.lift.factors import Factor
from attngen.lift.fold import fold
from attngen.lift.indices import Indices, broadcast, number
from attngen.lift.masks import SEEN, split
from attngen.lift.nodes import is_one, is_tensor, shape, source
from attngen.lift.normalizers import Recognised
from attngen.lift.operands import WIDTH
from attngen.lift.products import Roles
from attngen.lift.randomness import keep
from attngen.normalizers.softmax import softmax

if TYPE_CHECKING:
    from torch.fx import Node

NAME = "scaled_dot_product_attention"


@dataclass(frozen=True, slots=True)
class Dotted:
    """The call in the parts of an attention."""

    reader: Elements
    roles: Roles
    q: tuple[Node, Indices]
    k: tuple[Node, Indices]
    v: tuple[Node, Indices]
    out: str
    found: Recognised


def dotted(node: Node) -> Dotted:
    """What a call computes. A row without keys gives 0, as the fused kernels of torch do."""
    return _dotted(node, *node.args, **node.kwargs)


def _dotted(
    node: Node, query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: Any = 0.0, is_causal: Any = False,
    *, scale: Any = None, enable_gqa: Any = False,
) -> Dotted:  # fmt: skip
    sizes, key_sizes = shape(query), shape(key)
    batches = ascii_letters[: len(sizes) - 2]
    if len(key_sizes) != len(sizes) or len(shape(value)) != len(sizes):
        raise blocked("queries, keys and values of different ranks", node)
    outer = [a if not is_one(a) else b for a, b in zip(sizes[:-2], key_sizes[:-2], strict=True)]
    letters = dict(zip(batches, outer, strict=True))
    named = {**letters, "X": sizes[-2], "Y": key_sizes[-2], "Z": shape(value)[-1]}
    roles = Roles("X", "Y", "Z", batches[0] if len(batches) > 1 else "", batches[len(batches) > 1 :], named)
    reader = Elements(roles.n_q, roles.n_k)
    reader.lines.source = source(node)
    index = roles.index(batches)

    def side(x: Node, position: Expr) -> tuple[Node, Indices]:
        places = broadcast(index, outer, shape(x)[:-2])
        if enable_gqa is True and places and not is_one(shape(x)[-3]):
            group = number(outer[-1]) // number(shape(x)[-3])
            places = (*places[:-1], fold("floordiv", (places[-1], const(group))) if group != 1 else places[-1])
        return x, (*places, position, WIDTH)

    score: Expr = op("mul", sym("score"), _scale(reader, scale, sizes[-1]))
    mask: Expr = SEEN
    if is_causal is True:
        mask = op("le", sym("kv"), sym("q"), source=reader.lines.source)
    if is_tensor(attn_mask):
        whole = (*index, sym("q"), sym("kv"))
        given = reader.at(attn_mask, broadcast(whole, (*outer, sizes[-2], key_sizes[-2]), shape(attn_mask)))
        if given.type == "bool":
            mask = fold("and", (mask, given))
        else:
            seen, rest = split(given)
            mask, score = fold("and", (mask, seen)), fold("add", (score, rest))
    factors = () if dropout_p == 0 else (Factor(keep(reader, dropout_p, node)),)
    found = Recognised(mask, score, softmax().ir, factors)  # type: ignore[arg-type]
    q, k, v = side(query, sym("q")), side(key, sym("kv")), side(value, sym("kv"))
    return Dotted(reader, roles, q, k, v, f"{batches}XZ", found)


def _scale(reader: Elements, scale: Any, width: Any) -> Expr:
    if scale is None:
        return const(number(width) ** -0.5)
    found = reader.scalar(scale)
    return found if found.type == "float" else fold("to_float", (found,))
