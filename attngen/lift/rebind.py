"""Changes in place become new values: `s.masked_fill_(...)`, `s += bias`, `s[:, mask] = -inf`.

A tensor that is made in the graph and changed there is the same as a new tensor under the old name from then on. What
is changed through a view, or came from outside, stays as it is, and blocks the lifting of what depends on it.
"""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast

import torch

from attngen.errors import LiftError
from attngen.lift.blocked import blocked
from attngen.lift.nodes import called, example, is_tensor

if TYPE_CHECKING:
    from torch.fx import Graph, Node

IN_PLACE = {operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul,
            operator.itruediv: operator.truediv, operator.iand: operator.and_, operator.ior: operator.or_}  # fmt: skip


def rebound(graph: Graph) -> None:
    """Gives a name of its own to every value that a change in place makes, as far as that is the same."""
    for node in list(graph.nodes):
        if not changes(node) or not is_fresh(node.args[0], node):
            continue
        if node.target is operator.setitem:
            _fill(graph, node)
            continue
        target: Any = node.args[0]
        _out_of_place(node)
        _after(node, target, node)


def unsafe(graph: Graph, read: Collection[Node]) -> LiftError | None:
    """Why tensors cannot be read at another place of the graph than where they are: something changes them there."""
    tensors = [node for node in read if is_tensor(node)]
    inputs = [example(node) for node in graph.nodes if node.op in ("placeholder", "get_attr") and is_tensor(node)]
    differentiable = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    for node in graph.nodes:
        if called(node) == "_set_grad_enabled" and differentiable:
            # The switch itself has no line.
            place = next((n for n in (node, node.next, node.prev) if n.stack_trace), node)
            return blocked("gradients are switched on or off inside of the function; do that around it", place)
        target: Any = node.args[0] if changes(node) else None
        if is_tensor(target) and any(shares(tensor, target) for tensor in tensors):
            if node.target is operator.setitem:
                return blocked("a part of a tensor that the attention reads is assigned; write torch.where", node)
            name = called(node).strip("_")
            return blocked(f"`{name}` in place on a tensor that the attention reads; make a new tensor", node)
    return None


def changes(node: Node) -> bool:
    """Whether a node changes its first argument."""
    if node.op == "call_method":
        name = str(node.target)
        return name.endswith("_") and not name.endswith("__") and name != "requires_grad_" and bool(node.args)
    if node.op != "call_function":
        return False
    name = getattr(node.target, "__name__", "")
    functional = name.endswith("_") and not name.endswith("__") and name not in ("and_", "or_", "not_", "is_")
    tensors = bool(node.args) and is_tensor(node.args[0])
    return tensors and (node.target in (*IN_PLACE, operator.setitem) or functional)


def is_fresh(target: Any, change: Node) -> bool:
    """Whether a tensor was made in the graph, and nothing that shares its memory is read after the change."""
    if not is_tensor(target):
        return False
    order = {node: place for place, node in enumerate(change.graph.nodes)}
    for node in (n for n in order if is_tensor(n) and shares(n, target)):
        if node.op in ("placeholder", "get_attr"):
            return False
        earlier = node is not target and order[node] < order[change]
        if earlier and any(order[user] > order[change] for user in node.users):
            return False
    return True


def shares(a: Node, b: Node) -> bool:
    """Whether two tensors lie in one memory."""
    one, other = example(a), example(b)
    return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)


def _out_of_place(node: Node) -> None:
    if node.op == "call_method":
        node.target = str(node.target).removesuffix("_")
        return
    if node.target in IN_PLACE:
        node.target = IN_PLACE[node.target]
        return
    name = getattr(node.target, "__name__", "").removesuffix("_")
    node.target = getattr(torch, name, None) or getattr(torch.nn.functional, name)


def _fill(graph: Graph, node: Node) -> None:
    """`x[mask] = number` is a masked_fill; other assignments stay."""
    target, key, value = cast("tuple[Any, Any, Any]", node.args)
    if not is_tensor(key) or example(key).dtype != torch.bool or not isinstance(value, int | float):
        return
    if example(key).dim() != example(target).dim():
        return
    with graph.inserting_before(node):
        filled = graph.call_method("masked_fill", (target, key, value))
    filled.meta["example_value"] = example(target)
    filled.stack_trace = node.stack_trace
    _after(node, target, filled)
    graph.erase_node(node)


def _after(change: Node, old: Node, new: Node) -> None:
    """Everything behind the change reads the new value."""
    found = False
    for node in list(change.graph.nodes):
        if found and node is not new:
            node.replace_input_with(old, new)
        found = found or node is change
