"""Puts a Spec together from pieces traced one by one: equal inputs become one, names stay unique."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from attngen.arguments import each_row, is_tensor, number, refuse, row_numbers
from attngen.errors import SpecError
from attngen.frontend import COEFFICIENT, SCALE, Binding, Bindings, Role, Traced, combine, rename, trace
from attngen.ir import nodes
from attngen.ir.expr import Expr, const, loads
from attngen.ir.nodes import Branch, Combine, Input, Router, Space, default_scale
from attngen.ir.normalizer import Normalizer as Declaration
from attngen.ir.walk import expressions
from attngen.masks.mask import Mask
from attngen.normalizers.registry import named
from attngen.program import Program
from attngen.scores.score import Score
from attngen.texts import parsed
from attngen.weights.weight import Weight

FREE = "given per call"
ROW_VALUES = "a finite number, a floating-point tensor (), (H,) or (B, H, Nq), a text, a function of the row"


class Builder:
    """Collects the pieces of one Spec. Every method takes what a user gives and returns its expression.

    `space` None: a sequence, or the grid of a mask, score or weight that has one.
    """

    def __init__(self, space: object = None) -> None:
        if space is not None and not isinstance(space, nodes.Sequence | nodes.Grid | nodes.Segments | nodes.Paged):
            raise refuse("space", space, "None, attngen.Grid(dims), Segments() or Paged(page)")
        self.space: Space | None = space
        self._traced: list[Traced] = []
        self._declared: dict[str, Input] = {}

    # --- pieces -------------------------------------------------------------------------------------------------------

    def mask(self, value: object) -> Expr:
        """True where there is none."""
        return const(True) if value is None else self._program(Mask.of(value, grid=self._dims))

    def score(self, value: object) -> Expr:
        """The score itself where there is none."""
        return nodes.KeySet().score if value is None else self._program(Score.of(value, grid=self._dims))

    def weight(self, value: object) -> Expr | None:
        """None where there is none."""
        return None if value is None else self._program(Weight.of(value, grid=self._dims))

    def scale(self, value: object) -> Expr:
        """1 / sqrt(d) where there is none; a number, a tensor (), (H,) or (B, H, Nq), a text, a function of the row."""
        return default_scale() if value is None else self._row("scale", value, SCALE)

    def coefficient(self, name: str, value: object) -> Expr:
        """A factor of a branch: a number, a tensor (), (H,) or (B, H, Nq), a text, a function of the row."""
        return self._row(name, value, COEFFICIENT)

    def normalizer(self, value: object) -> Declaration:
        """A name, or an object of `attngen.normalizers`."""
        given = named(value)
        return given.declared_with(iter(self.add(*given.parts())))

    def input(self, name: str, axes: tuple[str, ...], type: Any = "float") -> str:
        """Declares an input that each call gives, beside those that expressions read."""
        self._declared[name] = Input(name, axes, type, grad=bool(axes) and type == "float")
        return name

    def add(self, *traced: Traced) -> tuple[Expr, ...]:
        """The expressions over the inputs of this Spec."""
        self._traced.extend(_with_free_bindings(one) for one in traced)
        exprs, _, _ = combine(*self._traced)
        return exprs[len(exprs) - len(traced) :]

    # --- the whole ----------------------------------------------------------------------------------------------------

    def build(
        self,
        *branches: Branch,
        combine_by: Combine | None = None,
        routers: tuple[Router, ...] = (),
        name: str | None = None,
    ) -> tuple[nodes.Spec, Bindings[Binding]]:
        """The Spec of the branches, and what is bound to its inputs."""
        space = self.space or nodes.Sequence()
        for offsets in _inputs_of(space):
            self._declared.setdefault(offsets.name, offsets)
        rule = combine_by or nodes.Affine((const(1.0),) * len(branches))
        bare = nodes.Spec(branches, space, (), routers, rule, identifier(name or "attention"))
        used = {load.tensor for load in loads(*expressions(bare))}
        _, found, bindings = combine(*self._traced)
        free = {key for key, binding in bindings.items() if _is_free(binding)}
        for key in free:
            if bindings[key].path != key:
                raise SpecError(f"{bindings[key].path}: names an input of the call and a captured one; rename one")
        inputs = {i.name: i for i in found if i.name in used} | self._declared
        bound = {key: binding for key, binding in bindings.items() if key in used and key not in free}
        spec = nodes.Spec(branches, space, tuple(inputs.values()), routers, rule, bare.name)
        return spec, Bindings(bound, bindings.guards)

    # --- inside -------------------------------------------------------------------------------------------------------

    @property
    def _dims(self) -> tuple[int, ...]:
        return self.space.dims if isinstance(self.space, nodes.Grid) else ()

    def _program(self, program: Program) -> Expr:
        if program.grid and self.space is None:
            self.space = nodes.Grid(program.grid)
        if program.grid and program.grid != self._dims:
            raise SpecError(f"space: got {self.space}, but {program.name} is on the grid {program.grid}; give that one")
        return self.add(program.traced)[0]

    def _row(self, name: str, value: Any, role: Role) -> Expr:
        return self.add(_row_traced(name, value, role))[0]


def _row_traced(name: str, value: Any, role: Role) -> Traced:
    scale = value
    if isinstance(value, str):
        return parsed(value, name)
    if is_tensor(value):
        scale = value if value.dim() == 0 else row_numbers(name, value)
    elif callable(value):
        return trace(value, role)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        scale = float(number(name, value))
    else:
        raise refuse(name, value, ROW_VALUES)
    return _renamed(trace(lambda b, h, q: each_row(scale, b, h, q), role), {"scale": name})


def _renamed(traced: Traced, names: dict[str, str]) -> Traced:
    inputs = tuple(replace(i, name=names.get(i.name, i.name)) for i in traced.inputs)
    bindings = {names.get(key, key): binding for key, binding in traced.bindings.items()}
    guards = traced.bindings.guards if isinstance(traced.bindings, Bindings) else ()
    return Traced(rename(traced.expr, names), inputs, Bindings(bindings, guards))


def _with_free_bindings(traced: Traced) -> Traced:
    """Inputs that each call gives, marked so that `combine` takes equal names for one input."""
    unbound = [i for i in traced.inputs if i.name not in traced.bindings]
    free = {i.name: Binding(i.name, (FREE, i.name), dict, i.type) for i in unbound}
    if not free:
        return traced
    guards = traced.bindings.guards if isinstance(traced.bindings, Bindings) else ()
    return Traced(traced.expr, traced.inputs, Bindings({**traced.bindings, **free}, guards))


def _is_free(binding: Binding) -> bool:
    return isinstance(binding.key, tuple) and binding.key[0] == FREE


def _inputs_of(space: Space) -> tuple[Input, ...]:
    match space:
        case nodes.Segments(q_offsets=q, k_offsets=k):
            return Input(q, ("?",), "int"), Input(k, ("?",), "int")
        case nodes.Paged(table=table, lengths=lengths):
            return Input(table, ("b", "?"), "int"), Input(lengths, ("b",), "int")
    return ()


def identifier(name: str) -> str:
    """A name made of letters, digits and underscores."""
    return re.sub(r"[\W_]+", "_", name).strip("_") or "attention"
