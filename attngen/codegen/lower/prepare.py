"""Specs with routers, feature maps, projections, decays and states as specs without: what these are is made before.

Router            -> an int input, the class table
View(feature)     -> a view of an input, the features
phi(s) = s        -> sums over blocks of keys as virtual keys, where the mask allows it (`linear`)
Project           -> values that are projected already
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from attngen.codegen.lower import eager, linear
from attngen.codegen.lower.features import featured_view
from attngen.codegen.lower.linear import Kind, Summed, kinds
from attngen.codegen.lower.produced import Produced, Producer
from attngen.codegen.lower.projections import Projected, is_linear
from attngen.codegen.lower.routers import classes_of
from attngen.codegen.lower.states import Names
from attngen.codegen.plan import value_extent
from attngen.codegen.problem import Operand, Problem
from attngen.errors import InputError
from attngen.ir import nodes
from attngen.ir.expr import const
from attngen.ir.nodes import Affine, Branch, Grid, KeySet, Project, Spec, View
from attngen.ir.walk import views


def needed(spec: Spec) -> bool:
    """Whether anything has to be made before the loop."""
    features = any(view.feature is not None for view in views(spec))
    states = any(kind is not None for kind in kinds(spec))
    decays = any(branch.decay is not None for branch in spec.branches)
    return bool(spec.routers) or isinstance(spec.combine, Project) or features or states or decays


def refusal(spec: Spec) -> str | None:
    """None, or the reason why something cannot be made before the loop."""
    if not isinstance(spec.space, nodes.Sequence | Grid):
        what = "routers, feature maps, projections and decays"
        return f"{what} over {type(spec.space).__name__.lower()} have no kernel yet"
    for view in views(spec):
        if view.feature is not None and (reason := eager.refusal(view.feature)):
            return f"{reason} has no kernel yet"
    for branch, kind in zip(spec.branches, kinds(spec), strict=True):
        if branch.decay is None:
            continue
        declared = spec.input(branch.decay)
        if kind is None or declared is None or len(declared.axes) != 3:
            return "a decay has a kernel only for one number a head and token, beside a score that is linear in the dot"
    if isinstance(spec.combine, Project):
        for branch, name in zip(spec.branches, spec.combine.weights, strict=True):
            if name is not None and not is_linear(branch.normalizer):
                return f"a projection after {branch.normalizer.name!r}, whose result is not linear in v, has no kernel"
    return None


@dataclass(frozen=True, slots=True)
class Prepared:
    """The spec that the loop runs, its inputs those of the written spec and then what the producers make, in order."""

    spec: Spec
    producers: tuple[Producer, ...]

    @property
    def made(self) -> tuple[Produced, ...]:
        return tuple(one for producer in self.producers for one in producer.made)


def prepare(spec: Spec, problem: Problem) -> Prepared:
    """The prepared form of a spec that is not refused."""
    return _Preparation(spec, problem).prepared()


class _Preparation:
    def __init__(self, spec: Spec, problem: Problem) -> None:
        self.spec, self.problem = spec, problem
        self.producers: list[Producer] = []
        self.known: dict[tuple[object, ...], str] = {}
        self.prefix = "made"
        while any(i.name.startswith(f"{self.prefix}.") for i in spec.inputs):
            self.prefix += "_"

    def prepared(self) -> Prepared:
        spec = self.spec
        self.producers += [classes_of(router, self.problem) for router in spec.routers]
        combine = spec.combine
        weights = combine.weights if isinstance(combine, Project) else (None,) * len(spec.branches)
        branches = tuple(self.branch(*each) for each in zip(spec.branches, kinds(spec), weights, strict=True))
        if isinstance(combine, Project):
            self.check_columns(branches, weights)
            combine = Affine((const(1.0),) * len(branches))
        inputs = (*spec.inputs, *(one.input for one in self.made))
        lowered = replace(spec, branches=branches, inputs=inputs, routers=(), combine=combine)
        return Prepared(lowered, tuple(self.producers))

    def check_columns(self, branches: Sequence[Branch], weights: Sequence[str | None]) -> None:
        """Raises for projections whose results cannot be added."""
        widths = [stop - start for start, stop in (self.extent(branch.v) for branch in branches)]
        wanted = next((width for width, name in zip(widths, weights, strict=True) if name is None), widths[0])
        for width, name in zip(widths, weights, strict=True):
            if name is not None and width != wanted:
                raise InputError(f"{name}: got {width} columns; it is added to a result that is {wanted} wide")

    @property
    def made(self) -> tuple[Produced, ...]:
        return tuple(one for producer in self.producers for one in producer.made)

    def branch(self, branch: Branch, kind: Kind | None, weight: str | None) -> Branch:
        if kind is not None:
            return self.states(branch, kind, weight)
        main, *others = (self.keyset(keyset, weight) for keyset in branch.all_keysets())
        return replace(branch, dots=main.dots, v=main.v, keysets=tuple(others))

    def keyset(self, keyset: KeySet, weight: str | None) -> KeySet:
        dots = tuple(replace(dot, q=self.featured(dot.q, "q"), k=self.featured(dot.k, "kv")) for dot in keyset.dots)
        return replace(keyset, dots=dots, v=self.projected(self.featured(keyset.v, "kv"), weight))

    def featured(self, view: View, tokens: str) -> View:
        """The view without its feature map."""
        if view.feature is None:
            return view

        def make(name: str) -> Producer:
            return featured_view(name, tokens, view, value_extent(view, self.problem), self.problem)

        return View(self.named((replace(view, head=None), tokens), "features", make), head=view.head)

    def projected(self, view: View, weight: str | None) -> View:
        """The view of values that are projected already."""
        if weight is None:
            return view

        def make(name: str) -> Producer:
            width = self.problem.operand(weight).width
            return Projected(name, "kv", view.tensor, *self.extent(view), weight, self.dtype, width)

        return View(self.named((replace(view, head=None), weight), "values", make), head=view.head)

    def states(self, branch: Branch, kind: Kind, weight: str | None) -> Branch:
        (dot,) = branch.dots
        q, k, v = self.featured(dot.q, "q"), self.featured(dot.k, "kv"), self.featured(branch.v, "kv")
        width = self.operand(weight).width if weight else self.extent(v)[1] - self.extent(v)[0]
        given = Summed(q, k, self.extent(k), v, self.extent(v), weight, width, self.dtype)
        at = f"{self.prefix}.states{len(self.producers)}"
        has_mass = getattr(branch.normalizer, "psi", None) is not None
        small = self.dtype == "float16"
        masses, size = (
            f"{at}.{name}" if there else None for name, there in (("masses", has_mass or small), ("size", small))
        )
        names = Names(f"{at}.units", f"{at}.values", masses, size)
        decay = None if branch.decay is None else f"{at}.decay"
        seen = replace(given, v=self.projected(v, weight)) if kind.causal else given
        summed, reach = linear.summed_up(branch, kind, seen, names, decay)
        pair = None if decay is None or branch.decay is None else (decay, branch.decay)
        self.producers += linear.producers_of(given, reach, names, has_mass, pair)
        return summed

    def named(self, key: tuple[object, ...], what: str, make: Callable[[str], Producer]) -> str:
        """The name of what a producer makes, one for equal keys."""
        if key not in self.known:
            self.known[key] = f"{self.prefix}.{what}{len(self.producers)}"
            self.producers.append(make(self.known[key]))
        return self.known[key]

    def operand(self, name: str) -> Operand:
        made = (one.operand for one in self.made)
        return next(o for o in (*self.problem.operands, *made) if o.name == name)

    def extent(self, view: View) -> tuple[int, int]:
        """The channels that a view reads, of a made tensor too."""
        return value_extent(view, replace(self.problem, operands=(self.operand(view.tensor),)))

    @property
    def dtype(self) -> str:
        return self.problem.operand("q").dtype
