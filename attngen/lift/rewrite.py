"""Puts the kernel into the graph: methods that make its operands, one call, methods that give back the shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from attngen.kernel import Kernel
from attngen.lift.elements import Leaf
from attngen.lift.nodes import called, example

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Graph, GraphModule, Node

    from attngen.lift.attention import Attention
    from attngen.lift.operands import Step


class Fused(nn.Module):
    """A kernel as a part of a graph."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, q: Tensor, k: Tensor, v: Tensor, **inputs: Any) -> Any:
        return self.kernel(q, k, v, **inputs)

    def extra_repr(self) -> str:
        return self.kernel.spec.ir.name


class Draft:
    """The new nodes of one attention, made before its root. They are erased again if the kernel does not run."""

    def __init__(self, graph: Graph, found: Attention) -> None:
        self.graph = graph
        self.found = found
        self.made: list[Node] = []
        with graph.inserting_before(found.root):
            self.operands = [self.steps(part.node, part.steps) for part in (found.q, found.k, found.v)]
            self.inputs = {name: self.input(leaf) for name, leaf in found.inputs.items()}

    def steps(self, node: Node, steps: tuple[Step, ...]) -> Node:
        """The methods of `steps` called one after the other."""
        for name, args in steps:
            node = self._call("call_method", name, (node, *args), getattr(example(node), name)(*args))
        return node

    def input(self, leaf: Leaf) -> Node:
        """What an input of the kernel is given."""
        if leaf.node is None:
            like = example(self.operands[0])
            args = (0, 2**63 - 1, (1,))
            drawn = self._call("call_function", torch.randint, args, like.new_zeros(1, dtype=torch.int64))
            drawn.kwargs = {"device": like.device}
            return drawn
        node: Node = self.steps(leaf.node, (("reshape", (1,)),)) if leaf.scalar_tensor else leaf.node
        return node

    def _call(self, kind: str, target: Any, args: tuple[Any, ...], value: Any) -> Node:
        node = self.graph.create_node(kind, target, args, {})
        node.meta["example_value"] = value
        node.stack_trace = self.found.root.stack_trace
        self.made.append(node)
        return node

    def drop(self) -> None:
        """Leaves the graph as it was."""
        for node in reversed(self.made):
            self.graph.erase_node(node)

    def put(self, module: GraphModule, kernel: Kernel, number: int) -> None:
        """Calls the kernel in place of the root; what only the root needed is gone."""
        root = self.found.root
        name = f"{kernel.spec.ir.name}_{number}"
        module.add_submodule(name, Fused(kernel))
        with self.graph.inserting_before(root):
            fused = self.graph.call_module(name, tuple(self.operands), dict(self.inputs))
            fused.stack_trace = root.stack_trace
            fused.meta["example_value"] = example(self.operands[0]).new_empty(
                (*example(self.operands[0]).shape[:-1], example(self.operands[2]).shape[-1])
            )
            result = self.steps(fused, self.found.after)
        root.replace_all_uses_with(result)
        unused(self.graph, root)


def unused(graph: Graph, root: Node) -> None:
    """Erases a node and what only it needed."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node.users or node.op in ("placeholder", "output") or node not in graph.nodes:
            continue
        inputs = list(node.all_input_nodes)
        graph.erase_node(node)
        stack.extend(inputs)


def without_views(graph: Graph) -> None:
    """A kernel's result lies in memory as its queries do, so `view` may have to copy where it did not: `reshape`."""
    for node in graph.nodes:
        if called(node) == "view" and not any(isinstance(a, torch.dtype) for a in node.args):
            node.target = "reshape"
