"""`attngen.Spec`: what an attention computes, with the live inputs that its functions captured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from attngen.builder import Builder, identifier
from attngen.errors import SpecError
from attngen.extra_keys import with_extra_keys
from attngen.frontend import MASK_OR_SCORE, Binding, Bindings, trace
from attngen.ir import nodes
from attngen.ir.expr import const
from attngen.ir.nodes import Branch, Combine, Dot, Input, Router, Segments, Space
from attngen.ir.parse import parse
from attngen.ir.text import text
from attngen.ir.verify import verify
from attngen.masks.mask import Mask
from attngen.scores.score import Score
from attngen.space import Grid


@dataclass(frozen=True, slots=True, init=False, repr=False, eq=False)
class Spec:
    """The definition of an attention mechanism. Immutable, hashable; `str(spec)` is a text that parses back.

    Fields: `ir`, the verified `attngen.ir.nodes.Spec`; `bindings`, how each captured input is read at a call. Two specs
    are equal if their `ir` is, and if their inputs read the same variables.
    """

    ir: nodes.Spec
    bindings: Bindings[Binding]

    def __init__(
        self,
        mask: Any = None,
        score: Any = None,
        normalizer: Any = "softmax",
        space: Any = None,
        scale: Any = None,
        weight: Any = None,
        name: str | None = None,
    ) -> None:
        """The everyday form: one dot product, one normalizer.

        mask, score, weight: objects of `attngen.masks`, `scores`, `weights`; plain functions of named arguments; texts.
        normalizer: a name, or an object of `attngen.normalizers`, your own `streaming` declaration included.
        space: None, `attngen.Grid(dims)`, `Segments()` or `Paged(page)`.
        scale: None for 1 / sqrt(D); a number; a float tensor (), (H,), (B, H, Nq); a function of b, h, q, n_q, n_k, d.
        Raises `SpecError`, naming the argument or the line of the function that is wrong.
        """
        builder = Builder(space)
        mask = None if mask is None else Mask.of(mask, grid=_dims(space))
        score = None if score is None else Score.of(score, grid=_dims(space))
        branch = Branch(
            mask=builder.mask(mask),
            score=builder.score(score),
            normalizer=builder.normalizer(normalizer),
            weight=builder.weight(weight),
            dots=(Dot(scale=builder.scale(scale)),),
        )
        given = name or "_".join(part.name for part in (mask, score) if part is not None)
        self._set(*builder.build(branch, name=given))

    @classmethod
    def from_function(cls, function: Callable[..., Any], name: str | None = None, **others: Any) -> Spec:
        """The Spec of a function that is a mask or a score, as its parameters and its result tell."""
        grid = _dims(others.get("space"))
        traced = trace(function, MASK_OR_SCORE.on_grid(len(grid)) if grid else MASK_OR_SCORE)
        name = name or str(getattr(function, "__name__", "attention"))
        kind = "mask" if traced.expr.type == "bool" else "score"
        if others.get(kind) is not None:
            raise SpecError(f"{kind}: got a second one beside the function {name}; join them with & or >>")
        part = Mask(traced, name, grid) if kind == "mask" else Score(traced, name, grid)
        return cls(**{**others, kind: part}, name=name)

    @classmethod
    def of(
        cls,
        *branches: Branch,
        combine: Combine | None = None,
        inputs: tuple[Input, ...] = (),
        routers: tuple[Router, ...] = (),
        space: Space | None = None,
        bindings: Mapping[str, Binding] | None = None,
        name: str = "attention",
    ) -> Spec:
        """The Spec of nodes of `attngen.ir`: several branches, dots, key sets, routers."""
        rule = combine or nodes.Affine((const(1.0),) * len(branches))
        ir = nodes.Spec(branches, space or nodes.Sequence(), inputs, routers, rule, identifier(name))
        return cls.from_ir(ir, bindings or {})

    @classmethod
    def from_ir(cls, ir: nodes.Spec, bindings: Mapping[str, Binding] | None = None) -> Spec:
        """The Spec of a finished `attngen.ir.nodes.Spec`; inputs without a binding are given per call."""
        spec = object.__new__(cls)
        spec._set(ir, bindings if isinstance(bindings, Bindings) else Bindings(bindings))
        return spec

    @classmethod
    def parse(cls, source: str) -> Spec:
        """The Spec of a text form. It holds no captured values: every input is given per call."""
        return cls.from_ir(parse(source))

    @property
    def inputs_needed(self) -> tuple[Input, ...]:
        """The inputs that a call must give: `kernel(q, k, v, gate=...)`."""
        return tuple(i for i in self.ir.inputs if i.name not in self.bindings)

    def with_extra_keys(self, mask: Any = None, score: Any = None) -> Spec:
        """The same with more keys under the same normalizer, as text tokens beside an image: each call gives them.

        `kernel(q, k, v, extra_k=..., extra_v=...)`: extra_k (B or 1, Hk, S, D), extra_v (B or 1, Hv, S, Dv), any S,
        none included; gradients flow to both. Every query sees all of them, or those that `mask` says; their scores are
        scaled, and go through `score`, or else through the score of this spec. In both of these functions kv counts
        from 0 to S - 1 and n_k is S. Raises `SpecError` where the score of this spec reads kv and none is given:
        `score="score"` takes the scaled dot product as it is.
        """
        return self.from_ir(*with_extra_keys(self.ir, self.bindings, mask, score))

    def named(self, name: str) -> Spec:
        """The same Spec under another name."""
        return self.from_ir(replace(self.ir, name=identifier(name)), self.bindings)

    def _set(self, ir: nodes.Spec, bindings: Bindings[Binding]) -> None:
        verify(ir)
        for name in bindings:
            if ir.input(name) is None:
                raise SpecError(f"bindings: {name!r} is not an input of the spec")
        object.__setattr__(self, "ir", ir)
        object.__setattr__(self, "bindings", bindings)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Spec):
            return NotImplemented
        return self.ir == other.ir and dict(self.bindings) == dict(other.bindings)

    def __hash__(self) -> int:
        return hash((self.ir, frozenset(self.bindings.items())))

    def __str__(self) -> str:
        return text(self.ir)

    def __repr__(self) -> str:
        return f"<attngen.Spec {self.ir.name}>"


def _dims(space: object) -> tuple[int, ...]:
    return space.dims if isinstance(space, nodes.Grid) else ()


__all__ = ["Grid", "Segments", "Spec"]
