"""Several traced functions in one spec: names stay unique, and what reads the same value is one input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from attngen.frontend.bindings import Binding, Bindings
from attngen.ir.expr import Expr, Load, load, rebuild
from attngen.ir.nodes import Input

if TYPE_CHECKING:
    from attngen.frontend.trace import Traced


def rename(expr: Expr, names: Mapping[str, str]) -> Expr:
    """The expression with inputs renamed."""

    def change(node: Expr) -> Expr | None:
        if isinstance(node, Load) and names.get(node.tensor, node.tensor) != node.tensor:
            return load(names[node.tensor], node.indices, node.type, node.source)
        return None

    return rebuild(expr, change)


def combine(*traced: Traced) -> tuple[tuple[Expr, ...], tuple[Input, ...], Bindings[Binding]]:
    """The expressions of several traced functions over one set of inputs, with their bindings.

    Inputs that read the same value by the same path become one; others that share a name are told apart by a number.
    """
    exprs: list[Expr] = []
    inputs: dict[str, Input] = {}
    bindings: dict[str, Binding] = {}
    known: dict[Binding, str] = {}
    guards = {guard.key: guard for one in traced if isinstance(one.bindings, Bindings) for guard in one.bindings.guards}
    for one in traced:
        names: dict[str, str] = {}
        for given in one.inputs:
            binding = one.bindings.get(given.name)
            if binding is None:
                name = given.name if given.name in inputs and given.name not in bindings else None
            else:
                name = known.get(binding)
            if name is None:
                name = unique(given.name, inputs)
                inputs[name] = replace(given, name=name)
                if binding is not None:
                    bindings[name] = binding
                    known[binding] = name
            names[given.name] = name
        exprs.append(rename(one.expr, names))
    return tuple(exprs), tuple(inputs.values()), Bindings(bindings, tuple(guards.values()))


def unique(name: str, taken: Mapping[str, object]) -> str:
    """The name, with a number where it is taken."""
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
