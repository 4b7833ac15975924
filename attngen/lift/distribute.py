"""(a - c b) v is a v - c (b v): the difference of two softmaxes becomes two attentions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen.lift.contractions import contraction
from attngen.lift.nodes import called, example, is_tensor, same, shape

if TYPE_CHECKING:
    from torch.fx import Graph, Node

SUMS = frozenset({"add", "sub"})
NORMALIZERS = frozenset({"softmax", "sigmoid", "softplus"})
POINTWISE = frozenset({"mul", "neg", "truediv", "div", "to", "float", "type_as", "dropout", "masked_fill", *SUMS})


def distributed(graph: Graph) -> None:
    """Rewrites each product of a sum of two kinds of weights as the sum of two products."""
    for node in list(graph.nodes):
        product = contraction(node)
        if product is None or product.added is not None:
            continue
        for place, weights in enumerate(node.args):
            if _is_sum(weights):
                _distribute(graph, node, place)
                break


def _is_sum(node: Any) -> bool:
    if not is_tensor(node) or called(node) not in SUMS or len(node.users) != 1 or node.kwargs or len(node.args) != 2:
        return False
    sizes = shape(node)
    return all(
        is_tensor(a) and len(shape(a)) == len(sizes) and all(map(same, shape(a), sizes)) and _normalised(a)
        for a in node.args
    )


def _normalised(node: Node) -> bool:
    """Whether weights are made of a normalizer and factors."""
    while True:
        if called(node) in NORMALIZERS:
            return True
        if called(node) not in POINTWISE:
            return False
        wide = [a for a in node.all_input_nodes if is_tensor(a) and len(shape(a)) == len(shape(node))]
        found = [a for a in wide if all(map(same, shape(a), shape(node)))]
        if len(found) != 1:
            return len(found) == 2 and called(node) in SUMS and all(map(_normalised, found))
        node = found[0]


def _distribute(graph: Graph, node: Node, place: int) -> None:
    weights: Any = node.args[place]
    with graph.inserting_before(node):
        parts = []
        for term in weights.args:
            args = (*node.args[:place], term, *node.args[place + 1 :])
            parts.append(_like(graph, node, args))
        total = graph.create_node(weights.op, weights.target, tuple(parts), {})
    total.meta["example_value"] = example(node)
    total.stack_trace = node.stack_trace
    node.replace_all_uses_with(total)
    graph.erase_node(node)
    graph.erase_node(weights)


def _like(graph: Graph, node: Node, args: Any) -> Node:
    made = graph.create_node(node.op, node.target, args, node.kwargs)
    made.meta["example_value"] = example(node)
    made.stack_trace = node.stack_trace
    return made
