"""The engine of one spec: from the tensors of a call to a prepared launch, kept for the next call of its shapes."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from attngen import settings
from attngen.autotune.choose import tuned
from attngen.autotune.key import structure
from attngen.autotune.situation import Situation
from attngen.codegen.backend import BackwardLaunch, Call, Launch
from attngen.codegen.derive.passes import last_declared
from attngen.codegen.lower.lowered import lowered
from attngen.codegen.plan import make_plan, value_extent
from attngen.codegen.precision import bare_tf32
from attngen.codegen.problem import Operand, Problem
from attngen.codegen.saved import saved_columns
from attngen.errors import InputError
from attngen.ir.expr import postorder
from attngen.ir.nodes import Concat, Layout, Project, Spec
from attngen.ir.text import text as text_of
from attngen.ir.walk import expressions, views
from attngen.pipeline import Compiled, build, compile_backward, compile_spec, select_backend
from attngen.runtime.call import DTYPES, Sizes, call_sizes, check_operands, dtype_name
from attngen.runtime.gradients import read_by_expressions, with_memory
from attngen.runtime.inputs import check_inputs, labelled_sizes, plain_indices
from attngen.runtime.tuning import attend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from attngen.settings import AutotuneMode

MOST_LAUNCHES = 1024
"""Sets of shapes that are kept per spec; a program with more of them prepares anew."""


WRITTEN: dict[tuple[str, str], Spec] = {}
"""Specs of this process by text and place: they know the user's lines, which the text does not carry."""


LOADED: dict[tuple[str, str], Engine] = {}
"""Engines that run kernels of bundles, by the text and the options that stand for them."""
BUNDLE = "bundle-"
"""How the place of such a spec begins."""


def remember(spec: Spec, text: str) -> str:
    """Keeps the spec for `engine`; gives the name of its place, a hash of the lines that it was written in."""
    lines = [(n.source.file, n.source.line, n.source.column) for n in postorder(*expressions(spec)) if n.source]
    place = hashlib.sha256(repr(lines).encode()).hexdigest()[:16]
    WRITTEN[text, place] = spec
    structure(text)  # kept, so that no call has to wait for it
    return place


@lru_cache(maxsize=512)
def engine(text: str, options: str) -> Engine:
    """The engine of a spec in text form; `options` is `layout:backend:place:isa:autotune`, where all but the first may
    be empty."""
    layout, backend, place, _, *rest = options.split(":")
    if place.startswith(BUNDLE):
        # A program that torch saved may come without its bundle. Compiling instead is what bundles are to avoid.
        if (text, options) not in LOADED:
            raise InputError("this program runs a kernel of a bundle; call attngen.load_bundle(directory) before")
        return LOADED[text, options]
    spec = WRITTEN.get((text, place))
    if spec is None:
        from attngen.ir.parse import parse

        spec = parse(text)
    return Engine(spec, cast(Layout, layout), backend or None, cast("AutotuneMode", "".join(rest)) or None, text)


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
    """Compiles on demand, one kernel per problem (dtypes and widths), one launch per set of shapes.

    Where configs were tuned, lengths of another size may get a kernel with another one. `written` is the text form of
    the spec; `autotune` stands in place of ATTNGEN_AUTOTUNE.
    """

    def __init__(
        self,
        spec: Spec,
        layout: Layout,
        backend: str | None,
        autotune: AutotuneMode | None = None,
        written: str | None = None,
    ) -> None:
        self.spec = spec
        self.layout = layout
        self.backend = backend
        self.autotune = autotune
        self.structure = structure(written or text_of(spec))
        self.tensor_inputs = tuple(i for i in spec.inputs if i.axes)
        self.int_inputs = tuple(i for i in spec.inputs if not i.axes and i.type != "float")
        self.float_inputs = tuple(i for i in spec.inputs if not i.axes and i.type == "float")
        self.operands = ("q", "k", "v", *(i.name for i in self.tensor_inputs))
        self.viewed = frozenset(view.tensor for view in views(spec))
        self.views_of_inputs = frozenset(i for i, item in enumerate(self.tensor_inputs) if item.name in self.viewed)
        projections = spec.combine.weights if isinstance(spec.combine, Project) else ()
        self.wide = self.viewed.union(name for name in projections if name is not None)
        self.indexed = plain_indices(spec)
        self.read = read_by_expressions(spec)
        self._compiled: dict[tuple[str, Problem, bool, bool], dict[Any, Compiled]] = {}
        self._launches: dict[tuple[object, ...], Launch] = {}
        self._backward_launches: dict[tuple[object, ...], BackwardLaunch] = {}

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        inputs: Sequence[Tensor],
        ints: Sequence[int],
        floats: Sequence[float],
        return_lse: bool,
        save: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Runs the kernel for these tensors; ints and floats are the run-time scalars in the order of the inputs.

        Gives (result, log-sum-exp or None, rows or None). With `save` the backend is one that has the backward too, and
        the rows are what that backward needs.
        """
        key = (q.shape, q.stride(), q.dtype, q.device, k.shape, k.stride(), k.dtype, k.device, v.shape, v.stride(),
               v.dtype, v.device, return_lse, save, bare_tf32(q.device.type),
               *((t.shape, t.stride(), t.dtype, t.device) for t in inputs))  # fmt: skip
        launch = self._launches.get(key)
        if launch is None:
            if len(self._launches) >= MOST_LAUNCHES:
                self._launches.clear()
            launch = self._prepare(q, k, v, inputs, (*ints, *floats), return_lse, save)
            self._launches[key] = launch
        return launch(q, k, v, inputs, (*ints, *floats), save)

    def backward(
        self,
        dout: Tensor,
        dlse: Tensor | None,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rows: Tensor | None,
        inputs: Sequence[Tensor],
        ints: Sequence[int],
        floats: Sequence[float],
        wanted: Sequence[bool],
    ) -> list[Tensor | None]:
        """The gradients of q, k, v and the inputs after `forward` with `save`, at least those that are `wanted`.

        `dout` may have any strides, zeros included; a launch is only used for those of its first call. `dlse` is given
        exactly where the forward returned a log-sum-exp. Gradients lie in memory as `torch.empty_like` of their tensor.
        """
        key = (dout.stride(), q.shape, q.stride(), q.dtype, q.device, k.shape, k.stride(), k.dtype, k.device, v.shape,
               v.stride(), v.dtype, v.device, dlse is None, bare_tf32(q.device.type), *wanted,
               *((t.shape, t.stride(), t.dtype, t.device) for t in inputs))  # fmt: skip
        launch = self._backward_launches.get(key)
        if launch is None:
            if len(self._backward_launches) >= MOST_LAUNCHES:
                self._backward_launches.clear()
            launch = self._prepare_backward(q, k, v, inputs, (*ints, *floats), dlse is not None, wanted)
            self._backward_launches[key] = launch
        if dlse is not None and not dlse.is_contiguous():
            dlse = dlse.contiguous()
        return launch(dout, dlse, q, k, v, rows, inputs, (*ints, *floats))

    def problem(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], return_lse: bool) -> Problem:
        """The compile-time facts of a call, after checking it."""
        check_operands(self._viewed(q, k, v, inputs), self.layout)
        operands = tuple(
            Operand(name, dtype_name(t), t.dim(), t.shape[-1] if name in self.wide else 0)
            for name, t in zip(self.operands, (q, k, v, *inputs), strict=True)
        )
        return Problem(DTYPES[dtype_name(q)], operands, return_lse)

    def traced_problem(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], return_lse: bool) -> Problem:
        """The same while torch traces: widths may be symbols then. Kernels depend on them, so they become numbers."""
        problem = self.problem(q, k, v, inputs, return_lse)
        return replace(problem, operands=tuple(replace(o, width=int(o.width)) for o in problem.operands))

    def compiled(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        inputs: Sequence[Tensor],
        return_lse: bool,
        gradients: bool = False,
        situation: Situation | None = None,
    ) -> Compiled:
        """The kernel for the dtypes and widths of these tensors, built on first use. `situation` is the call, where a
        config that was measured for calls like it is wanted."""
        problem = self.problem(q, k, v, inputs, return_lse)
        self._check_lse(return_lse)
        place = (q.device.type, problem, gradients, bare_tf32(q.device.type))
        kept = self._compiled.setdefault(place, {})
        if not kept:
            asked = frozenset(n for n, t in zip(self.operands[3:], inputs, strict=True) if t.requires_grad)
            wanted = asked & self.read if gradients else None
            found = compile_spec(self.spec, problem, q.device.type, self.backend, wanted, situation, self.autotune)
            kept[found.config if found.tuned else None] = found
            return found
        known = next(iter(kept.values()))
        said = tuned(known.plan, known.backend, situation, "forward", self.autotune)
        config = None if said is None else said.config
        if config not in kept:
            kept[config] = build(known, said)
        return kept[config]

    def situation(
        self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], numbers: Sequence[float] = ()
    ) -> Situation:
        """A call, as the database of configs sees it; the numbers are the integers, then the floats, of its inputs."""
        sizes = self.sizes(q, k, v, inputs)
        call = Call(sizes.n_b, sizes.n_h, sizes.n_q, sizes.n_k, self.layout, (q, k, v, *inputs))
        return Situation(self.structure, call, tuple(numbers))

    def saved_columns(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], return_lse: bool) -> int:
        """The columns of the rows that `forward` saves for these tensors; nothing is built."""
        self._check_lse(return_lse)
        plan = make_plan(self.spec, self.traced_problem(q, k, v, inputs, return_lse))
        backend, _ = select_backend(plan, q.device.type, self.backend, True)
        return 0 if backend.name == "reference" else saved_columns(lowered(plan))

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

    def _prepare(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        inputs: Sequence[Tensor],
        numbers: Sequence[float],
        return_lse: bool,
        save: bool,
    ) -> Launch:
        check_operands(self._viewed(q, k, v, inputs), self.layout)
        sizes = self.sizes(q, k, v, inputs)
        expected = labelled_sizes(self.spec, sizes, dict(zip(self.operands[3:], inputs, strict=True)))
        check_inputs(self.tensor_inputs, inputs, expected, q.device, self.viewed, self.indexed)
        situation = self.situation(q, k, v, inputs, numbers)
        compiled = self.compiled(q, k, v, inputs, return_lse, save, situation)
        if attend(self.autotune, compiled.plan, compiled.backend, situation):
            compiled = self.compiled(q, k, v, inputs, return_lse, save, situation)
        return compiled.backend.prepare(compiled.built, compiled.plan, situation.call)

    def _prepare_backward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        inputs: Sequence[Tensor],
        numbers: Sequence[float],
        return_lse: bool,
        wanted: Sequence[bool],
    ) -> BackwardLaunch:
        situation = self.situation(q, k, v, inputs, numbers)
        compiled = self.compiled(q, k, v, inputs, return_lse, True, situation)
        names = frozenset(n for n, asked in zip(self.operands, wanted, strict=True) if asked and n in self.read)
        attend(self.autotune, compiled.plan, compiled.backend, situation, "backward", names)
        backward = compile_backward(compiled, names, situation, self.autotune)
        launch = backward.backend.prepare_backward(backward.built, backward.plan, situation.call, names)
        return with_memory(launch, (q, k, v, *inputs), wanted)

    def _check_lse(self, return_lse: bool) -> None:
        if not return_lse:
            return
        normalizer = self.spec.branches[0].normalizer
        if len(self.spec.branches) > 1:
            raise InputError("return_lse: a spec of several branches has no single log-sum-exp")
        if getattr(last_declared(normalizer), "lse", None) is None:
            raise InputError(f"return_lse: the normalizer {normalizer.name!r} has no log-sum-exp; leave it out")
