"""The engine of one spec: from the tensors of a call to a prepared launch, kept for the next call of its shapes."""

from __future__ import annotations

import hashlib
import logging
import os
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from attngen import settings
from attngen.codegen.backend import Call, Launch
from attngen.codegen.plan import value_extent
from attngen.codegen.problem import Operand, Problem
from attngen.errors import InputError
from attngen.ir.expr import postorder
from attngen.ir.nodes import Concat, Layout, Project, Spec
from attngen.ir.walk import expressions, views
from attngen.pipeline import Compiled, compile_spec
from attngen.runtime.call import DTYPES, Sizes, call_sizes, check_operands, dtype_name
from attngen.runtime.inputs import check_inputs, plain_indices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


MOST_LAUNCHES = 1024
"""Sets of shapes that are kept per spec; a program with more of them prepares anew."""


WRITTEN: dict[tuple[str, str], Spec] = {}
"""Specs of this process by text and place: they know the user's lines, which the text does not carry."""


def remember(spec: Spec, text: str) -> str:
    """Keeps the spec for `engine`; gives the name of its place, a hash of the lines that it was written in."""
    lines = [(n.source.file, n.source.line, n.source.column) for n in postorder(*expressions(spec)) if n.source]
    place = hashlib.sha256(repr(lines).encode()).hexdigest()[:16]
    WRITTEN[text, place] = spec
    return place


@lru_cache(maxsize=512)
def engine(text: str, options: str) -> Engine:
    """The engine of a spec in text form; `options` is `layout:backend:place:isa`, where all but the first may
    be empty."""
    layout, backend, place, _ = options.split(":")
    spec = WRITTEN.get((text, place))
    if spec is None:
        from attngen.ir.parse import parse

        spec = parse(text)
    return Engine(spec, cast(Layout, layout), backend or None)


def follow_settings() -> None:
    """Gives the logger the level that ATTNGEN_LOG asks for, and a handler where the program has set up none."""
    if settings.variable("log") not in os.environ:
        return
    logger = logging.getLogger("attngen")
    logger.setLevel(settings.current().log)
    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler())


follow_settings()


class Engine:
    """Compiles on demand, one kernel per problem (dtypes and widths), one launch per set of shapes."""

    def __init__(self, spec: Spec, layout: Layout, backend: str | None) -> None:
        self.spec = spec
        self.layout = layout
        self.backend = backend
        self.tensor_inputs = tuple(i for i in spec.inputs if i.axes)
        self.int_inputs = tuple(i for i in spec.inputs if not i.axes and i.type != "float")
        self.float_inputs = tuple(i for i in spec.inputs if not i.axes and i.type == "float")
        self.operands = ("q", "k", "v", *(i.name for i in self.tensor_inputs))
        self.viewed = frozenset(view.tensor for view in views(spec))
        self.views_of_inputs = frozenset(i for i, item in enumerate(self.tensor_inputs) if item.name in self.viewed)
        projections = spec.combine.weights if isinstance(spec.combine, Project) else ()
        self.wide = self.viewed.union(name for name in projections if name is not None)
        self.indexed = plain_indices(spec)
        self._compiled: dict[tuple[str, Problem], Compiled] = {}
        self._launches: dict[tuple[object, ...], Launch] = {}

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        inputs: Sequence[Tensor],
        ints: Sequence[int],
        floats: Sequence[float],
        return_lse: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Runs the kernel for these tensors; ints and floats are the run-time scalars in the order of the inputs."""
        key = (q.shape, q.stride(), q.dtype, q.device, k.shape, k.stride(), k.dtype, k.device, v.shape, v.stride(),
               v.dtype, v.device, return_lse,
               *((t.shape, t.stride(), t.dtype, t.device) for t in inputs))  # fmt: skip
        launch = self._launches.get(key)
        if launch is None:
            if len(self._launches) >= MOST_LAUNCHES:
                self._launches.clear()
            launch = self._launches[key] = self._prepare(q, k, v, inputs, return_lse)
        return launch(q, k, v, inputs, (*ints, *floats))

    def problem(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], return_lse: bool) -> Problem:
        """The compile-time facts of a call, after checking it."""
        check_operands(self._viewed(q, k, v, inputs), self.layout)
        operands = tuple(
            Operand(name, dtype_name(t), t.dim(), t.shape[-1] if name in self.wide else 0)
            for name, t in zip(self.operands, (q, k, v, *inputs), strict=True)
        )
        return Problem(DTYPES[dtype_name(q)], operands, return_lse)

    def compiled(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], return_lse: bool) -> Compiled:
        """The kernel for the dtypes and widths of these tensors, built on first use."""
        problem = self.problem(q, k, v, inputs, return_lse)
        self._check_lse(return_lse)
        device = q.device.type
        found = self._compiled.get((device, problem))
        if found is None:
            found = compile_spec(self.spec, problem, device, self.backend)
            self._compiled[device, problem] = found
        return found

    def sizes(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor]) -> Sizes:
        """The checked sizes of a call."""
        return call_sizes(self.spec, self._viewed(q, k, v, inputs), self.layout)

    def _viewed(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """q, k, v and the inputs that views read, by name."""
        named = zip(self.operands, (q, k, v, *inputs), strict=True)
        return {name: tensor for name, tensor in named if name in self.viewed or name in ("q", "k", "v")}

    def result_sizes(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor]) -> tuple[Sizes, int]:
        """The checked sizes of a call, and the width of its result."""
        problem = self.problem(q, k, v, inputs, False)
        extents = [value_extent(branch.v, problem) for branch in self.spec.branches]
        widths = [stop - start for start, stop in extents]
        combine = self.spec.combine
        if isinstance(combine, Project) and combine.weights[0] is not None:
            widths = [problem.operand(combine.weights[0]).width]
        return self.sizes(q, k, v, inputs), sum(widths) if isinstance(combine, Concat) else widths[0]

    def _prepare(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], return_lse: bool) -> Launch:
        check_operands(self._viewed(q, k, v, inputs), self.layout)
        sizes = self.sizes(q, k, v, inputs)
        check_inputs(self.tensor_inputs, inputs, sizes, q.device, self.viewed, self.indexed)
        compiled = self.compiled(q, k, v, inputs, return_lse)
        call = Call(sizes.n_b, sizes.n_h, sizes.n_q, sizes.n_k, self.layout, (q, k, v, *inputs))
        return compiled.backend.prepare(compiled.built, compiled.plan, call)

    def _check_lse(self, return_lse: bool) -> None:
        if not return_lse:
            return
        normalizer = self.spec.branches[0].normalizer
        if len(self.spec.branches) > 1:
            raise InputError("return_lse: a spec of several branches has no single log-sum-exp")
        if getattr(normalizer, "lse", None) is None:
            raise InputError(f"return_lse: the normalizer {normalizer.name!r} has no log-sum-exp; leave it out")
