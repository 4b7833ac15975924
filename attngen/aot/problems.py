"""What the kernels of a spec are built for: dtypes, ranks and widths, without the tensors of a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from attngen.codegen.backends.triton.support import WIDEST
from attngen.codegen.derive.passes import last_declared
from attngen.codegen.plan import value_extent
from attngen.codegen.problem import Dtype, Operand, Problem
from attngen.errors import AttngenError, InputError
from attngen.ir.nodes import Input, Project
from attngen.ir.walk import views
from attngen.suggest import nearest

if TYPE_CHECKING:
    from attngen.ir import nodes
    from attngen.spec import Spec

TORCH = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
GIVEN = {"float": "float32", "int": "int64", "bool": "bool"}
"""The dtype of an input that nobody captured and nobody said anything about, by what it is in expressions."""
ELEMENTS = {
    "float": ("float32", "bfloat16", "float16", "float64"),
    "int": ("int64", "int32", "int16", "int8", "uint8"),
    "bool": ("bool",),
}
"""What may be said of an input."""
MOST_TRIED = 16 * WIDEST
"""Views may cut a head into parts that fit; nobody cuts it into more than so many."""


def problem_of(spec: Spec, dtype: str, head_dim: int, value_dim: int, inputs: Mapping[str, str]) -> Problem:
    """The problem of a spec: q, k, v of these widths, and its inputs.

    An input has the dtype that `inputs` says (torch's name), that of the tensor that was captured for it, or float32,
    int64 or bool; one that views read, as keys or values of their own, has the dtype of q. Raises `InputError` for a
    name or a dtype that does not fit.
    """
    element = TORCH[dtype]
    ir = spec.ir
    _check_names(ir, inputs)
    widths = {"q": head_dim, "k": head_dim, "v": value_dim}
    operands = [Operand(name, element, 4, widths[name]) for name in ("q", "k", "v")]
    read = {view.tensor: width for branch in ir.branches for view, width in _widths(branch, head_dim, value_dim)}
    projected = set(ir.combine.weights) if isinstance(ir.combine, Project) else set()
    for item in (item for item in ir.inputs if item.axes):
        captured = _captured(spec, item)
        if item.name in read:
            width = read[item.name] if captured is None else int(captured.shape[-1])
            operands.append(Operand(item.name, element, len(item.axes), width))
            continue
        width = (value_dim if captured is None else int(captured.shape[-1])) if item.name in projected else 0
        operands.append(Operand(item.name, _element(item, captured, inputs), len(item.axes), width))
    return Problem(cast(Dtype, dtype), tuple(operands), has_lse(ir))


def has_lse(spec: nodes.Spec) -> bool:
    """Whether there is a log-sum-exp to return. Kernels of a bundle always write it then, a number for each row."""
    if len(spec.branches) > 1:
        return False
    return getattr(last_declared(spec.branches[0].normalizer), "lse", None) is not None


def check_widths(spec: Spec, head_dim: int, value_dim: int, inputs: Mapping[str, str]) -> None:
    """Raises `InputError` for a head dimension that no kernel holds, naming the nearest that one does."""
    for name, width in (("head_dim", head_dim), ("value_dim", value_dim)):
        if width < 1:
            raise InputError(f"{name}: got {width}; allowed: 1 to {WIDEST}; the nearest is 1")
    for name, width, other in (("head_dim", head_dim, value_dim), ("value_dim", value_dim, head_dim)):

        def widest(width: int, name: str = name, other: int = other) -> int | None:
            """With the other one no larger, so that this one is to blame."""
            both = (width, min(width, other))
            return _widest(spec, *(both if name == "head_dim" else both[::-1]), inputs)

        found = widest(width)
        if found is not None and found > WIDEST:
            tried = range(min(width, MOST_TRIED) - 1, 0, -1)
            near = next((w for w in tried if (of := widest(w)) is not None and of <= WIDEST), None)
            told = "" if near is None else f"; the nearest is {near}"
            raise InputError(f"{name}: got {width}; a Triton kernel holds vectors of at most {WIDEST} channels{told}")


def _widest(spec: Spec, head_dim: int, value_dim: int, inputs: Mapping[str, str]) -> int | None:
    """The widest vector that views read; None where they do not fit such heads at all, which the plan tells better."""
    problem = problem_of(spec, "bf16", head_dim, value_dim, inputs)
    try:
        return max(stop - start for start, stop in (value_extent(view, problem) for view in views(spec.ir)))
    except AttngenError:
        return None


def _widths(branch: nodes.Branch, head_dim: int, value_dim: int) -> list[tuple[nodes.View, int]]:
    found = []
    for keyset in branch.all_keysets():
        found += [(view, head_dim) for dot in keyset.dots for view in (dot.q, dot.k)] + [(keyset.v, value_dim)]
    return found


def _captured(spec: Spec, item: Input) -> Any:
    binding = spec.bindings.get(item.name)
    return None if binding is None else binding.fetch()


def _element(item: Input, captured: Any, inputs: Mapping[str, str]) -> str:
    if item.name in inputs:
        return inputs[item.name]
    return GIVEN[item.type] if captured is None else str(captured.dtype).removeprefix("torch.")


def _check_names(spec: nodes.Spec, inputs: Mapping[str, str]) -> None:
    known = {item.name: item for item in spec.inputs if item.axes}
    for name, dtype in inputs.items():
        if name not in known:
            told = ", ".join(known) or "this spec has none"
            raise InputError(f"input: got {name!r}{nearest(name, known)}; tensors of this spec: {told}")
        allowed = ELEMENTS[known[name].type]
        if dtype not in allowed:
            raise InputError(
                f"input: got {dtype!r} for {name}{nearest(dtype, allowed)}; the spec reads it as {known[name].type}; "
                f"allowed: {', '.join(allowed)}"
            )
