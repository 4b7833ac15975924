"""One attention of a graph: from the product of weights and values back to a Spec and the tensors that it reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch.fx import Node

from attngen.builder import identifier
from attngen.errors import LiftError, SpecError
from attngen.ir import nodes
from attngen.ir.expr import Expr, Op, Sym, const, loads, op, postorder, sym, symbols
from attngen.ir.nodes import Branch, Dot, Input
from attngen.lift.blocked import blocked
from attngen.lift.contractions import Contraction, contraction
from attngen.lift.elements import Elements, Leaf
from attngen.lift.factors import Factor
from attngen.lift.indices import Indices, Unclear
from attngen.lift.nodes import called, example, is_tensor, same, shape
from attngen.lift.normalizers import Recognised, recognise
from attngen.lift.operands import WIDTH, Operand, Step, cast, operand
from attngen.lift.products import Roles, candidates, restored
from attngen.lift.reductions import markers
from attngen.lift.scale import by_width, scaled
from attngen.lift.sdpa import NAME as SDPA
from attngen.lift.sdpa import dotted
from attngen.spec import Spec

AXES = ("b", "h", "q", "kv")


@dataclass(frozen=True, slots=True)
class Attention:
    """What takes the place of `root`: the kernel of `spec` on q, k, v and `inputs`, then the methods `after`."""

    root: Node
    spec: Spec
    q: Operand
    k: Operand
    v: Operand
    inputs: dict[str, Leaf]
    after: tuple[Step, ...]
    inside: frozenset[Node]
    seen: frozenset[Node]


@dataclass(frozen=True, slots=True)
class Parts:
    """What both forms of an attention have: its roles, operands by index, and weights as they were recognised."""

    root: Node
    reader: Elements
    roles: Roles
    q: tuple[Node, Indices]
    k: tuple[Node, Indices]
    v: tuple[Node, Indices]
    out: str
    found: Recognised


def attention(node: Node, name: str) -> Attention | None:
    """The attention whose values a node multiplies; None where it is none. `LiftError` where it does not lift."""
    try:
        parts = _of_sdpa(node) if called(node) == SDPA else _of_product(node)
        return None if parts is None else _made(parts, name)
    except Unclear:
        raise blocked("a size that is only known at run time splits or joins dimensions", node) from None
    except SpecError as error:
        if isinstance(error, LiftError):
            raise
        raise LiftError(error.message, source=error.source or blocked("", node).source) from None


def _of_sdpa(node: Node) -> Parts:
    call = dotted(node)
    return Parts(node, call.reader, call.roles, call.q, call.k, call.v, call.out, call.found)


def _of_product(node: Node) -> Parts | None:
    product = contraction(node)
    if product is None or product.added is not None or product.alpha != 1:
        return None
    hidden: LiftError | None = None
    for weights, values, of_weights, of_values, roles in candidates(product):
        reader = Elements(roles.n_q, roles.n_k)
        expr = reader.at(weights, roles.index(of_weights))
        if reader.product is None or not reader.is_score(expr):
            hidden = hidden or _hidden(reader)
            continue
        root, expr = _divided(reader, roles, node, expr, product.out)
        found = recognise(reader, expr, node)
        scores = reader.product
        if not _attends(found, scores, of_values, roles):
            continue
        q, k = _sides(reader)
        _check_uses(reader, node, root)
        return Parts(root, reader, roles, q, k, (values, roles.index(of_values)), product.out, found)
    if hidden is not None:
        raise hidden
    return None


def _hidden(reader: Elements) -> LiftError | None:
    """Weights that a softmax makes of a product, with something between that hides the scores from the reader."""
    if not any(called(node) == "softmax" for node in reader.seen):
        return None
    for leaf in reader.leaves.values():
        if isinstance(leaf.node, Node) and called(leaf.node) != "softmax" and reader.behind_product(leaf.node):
            return blocked(
                f"`{called(leaf.node)}` between the two products has no form in a kernel: it mixes scores", leaf.node
            )
    return None


def _divided(reader: Elements, roles: Roles, node: Node, expr: Expr, out: str) -> tuple[Node, Expr]:
    """(e @ v) / e.sum(-1): the division may come after the product."""
    if len(node.users) != 1:
        return node, expr
    user = next(iter(node.users))
    if called(user) not in ("truediv", "div") or user.args[0] is not node or not is_tensor(user.args[1]) or user.kwargs:
        return node, expr
    below: Any = user.args[1]
    sizes = shape(below)
    if len(sizes) != len(out) or out[-1] != roles.width or sizes[-1] != 1:
        return node, expr
    divisor = reader.at(below, (*roles.index(out[:-1]), const(0)))
    if not markers(divisor):
        return node, expr
    return user, op("truediv", expr, divisor)


def _sides(reader: Elements) -> tuple[tuple[Node, Indices], tuple[Node, Indices]]:
    """Queries and keys of the first product, with the index of their elements."""
    product, place = reader.product, reader.place
    assert product is not None
    where = {**place, product.summed: WIDTH}
    return tuple(  # type: ignore[return-value]
        (node, tuple(where[x] for x in letters))
        for node, letters in ((product.left, product.of_left), (product.right, product.of_right))
    )


def _attends(found: Recognised, scores: Contraction, of_values: str, roles: Roles) -> bool:
    """relu(x @ a) @ b is an attention by form. It is one by meaning where keys belong to the batch of the queries."""
    if found.normalizer.psi is not None or {"q", "kv"} <= symbols(found.score) | symbols(found.mask):
        return True
    shared = set(scores.of_left) & set(scores.of_right) & set(scores.out)
    own = [x for x in of_values if x in roles.batch + roles.heads]
    return (
        found.normalizer.phi.type == "float"
        and bool(shared)
        and bool(own)
        and not isinstance(found.normalizer.phi, Sym)
    )


def _check_uses(reader: Elements, node: Node, root: Node) -> None:
    """What depends on scores must go nowhere else, or PyTorch has to make it anyway."""
    inside = {*reader.seen, node, root}
    for each in reader.scores:
        for user in each.users:
            if user not in inside:
                what = "returned" if user.op == "output" else f"used by `{called(user) or user.name}`"
                raise blocked(f"scores or weights are also {what}, so they have to be made", each)


def _made(parts: Parts, name: str) -> Attention:
    root, roles, reader = parts.root, parts.roles, parts.reader
    dtype = example(root).dtype
    operands = []
    for (node, index), position in zip((parts.q, parts.k, parts.v), ("q", "kv", "kv"), strict=True):
        found = operand(node, index, sym(position), dtype)
        if found is None:
            raise blocked("the layout of queries, keys or values is not one of batches, heads and positions", node)
        operands.append(cast(found, dtype))
    score, mask = parts.found.score, parts.found.mask
    width = shape(parts.q[0])[parts.q[1].index(WIDTH)]
    scale, score = scaled(score, width)
    numbers = {each: leaf.node for each, leaf in reader.leaves.items() if leaf.rank is None}
    scale = by_width(scale, [each for each, node in numbers.items() if same(example(node), width)])
    if score.type != "float":
        score = op("to_float", score)
    row, pair = _factors(parts.found.factors)
    branch = Branch(parts.found.normalizer, dots=(Dot(scale=scale),), mask=mask, score=score, weight=pair)
    exprs = [e for e in (mask, score, scale, row, pair, *_of_normalizer(parts.found.normalizer)) if e is not None]
    read = {one.tensor for one in loads(*exprs)}
    kept = {each: leaf for each, leaf in reader.leaves.items() if each in read}
    inputs = tuple(_input(each, leaf, exprs, roles) for each, leaf in kept.items())
    combine = nodes.Affine((const(1.0) if row is None else row,))
    spec = Spec.from_ir(nodes.Spec((branch,), nodes.Sequence(), inputs, (), combine, identifier(name)))
    inside = frozenset({*reader.scores, root})
    q, k, v = operands
    seen = frozenset({*reader.seen, q.node, k.node, v.node})
    return Attention(root, spec, q, k, v, kept, restored(roles, parts.out), inside, seen)


def _of_normalizer(node: Any) -> tuple[Expr, ...]:
    return tuple(e for e in (node.phi, node.psi, node.finalize, node.lse, node.sink) if e is not None)


def _factors(found: tuple[Factor, ...]) -> tuple[Expr | None, Expr | None]:
    """Factors of a row are coefficients of the result; the others weigh pairs."""
    row: Expr | None = None
    pair: Expr | None = None
    for each in found:
        if "kv" in symbols(each.expr) or _random(each.expr):
            pair = each.expr if pair is None else op("mul", pair, each.expr)
        else:
            row = each.expr if row is None else op("mul", row, each.expr)
    return row, pair


def _random(expr: Expr) -> bool:
    return any(isinstance(n, Op) and n.name == "uniform" for n in postorder(expr))


def _input(name: str, leaf: Leaf, exprs: list[Expr], roles: Roles) -> Input:
    if leaf.rank is None:
        return Input(name, (), leaf.type)
    if leaf.node is None:
        return Input(name, ("?",), leaf.type)
    found = [one for one in loads(*exprs) if one.tensor == name]
    sizes = dict(zip(AXES, (roles.n_b, roles.n_h, roles.n_q, roles.n_k), strict=True))
    axes = []
    for dim in range(leaf.rank):
        labels = {one.indices[dim].name if isinstance(one.indices[dim], Sym) else "?" for one in found}  # type: ignore[attr-defined]
        label = labels.pop() if len(labels) == 1 else "?"
        fits = label in sizes and not leaf.scalar_tensor and same(shape(leaf.node)[dim], sizes[label])
        axes.append(label if fits else "?")
    return Input(name, tuple(axes), leaf.type, grad=leaf.type == "float")


def attentions(graph: Any, name: str, refused: list[LiftError]) -> Iterator[Attention]:
    """Every attention of a graph, in order; what cannot be lifted is appended to `refused`."""
    taken: set[Node] = set()
    for node in list(graph.nodes):
        if node in taken or node._erased or (called(node) != SDPA and contraction(node) is None):
            continue
        try:
            found = attention(node, name)
        except LiftError as reason:
            refused.append(reason)
            continue
        except Exception as fault:  # ours, and no reason to break a function that PyTorch runs
            refused.append(blocked(f"attngen failed to read it, which is a bug: {fault!r}", node))
            continue
        if found is not None:
            taken |= found.inside
            yield found
