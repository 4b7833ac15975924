"""The last resort: the dense float64 reference, rounded to the dtype of the call. Needs O(Nq Nk) memory."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from attngen.codegen.backend import BackwardLaunch, Call, Launch, SourceFile
from attngen.codegen.plan import Plan
from attngen.codegen.recorded import recorded
from attngen.codegen.result import result_memory
from attngen.ir.reference import reference
from attngen.ir.text import text
from attngen.ir.walk import views

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from attngen.ir.nodes import Spec


class ReferenceBackend:
    """Takes every plan."""

    name = "reference"

    def supports(self, plan: Plan) -> str | None:
        return None

    def configs(self, plan: Plan) -> tuple[str, ...]:
        return ("dense",)

    def emit(self, plan: Plan, config: str) -> SourceFile:
        return SourceFile("reference.txt", text(plan.spec))

    def build(self, plan: Plan, config: str) -> None:
        return None

    def prepare(self, built: None, plan: Plan, call: Call) -> Launch:
        import torch

        spec, layout, return_lse = plan.spec, call.layout, plan.problem.return_lse

        def launch(
            q: Tensor,
            k: Tensor,
            v: Tensor,
            inputs: Sequence[Tensor],
            scalars: Sequence[float],
            save: bool = False,
        ) -> tuple[Tensor, Tensor | None, Tensor | None]:
            with torch.no_grad():
                out, lse = run(spec, layout, (q, k, v), inputs, scalars, return_lse)
            row_type = torch.float64 if q.dtype == torch.float64 else torch.float32
            # The backward evaluates anew, so rows hold nothing.
            rows = q.new_empty((call.n_b, call.n_h, call.n_q, 0), dtype=row_type) if save else None
            sizes = (call.n_b, call.n_h, call.n_q, out.shape[-1])
            shape, strides = result_memory(sizes, q.stride(), layout)
            result = torch.empty_strided(shape, strides, dtype=q.dtype, device=q.device).copy_(out)
            if lse is not None:
                lse = torch.empty(lse.shape, dtype=row_type, device=q.device).copy_(lse)
            return result, lse, rows

        return launch

    def supports_backward(self, plan: Plan) -> str | None:
        return None

    def configs_backward(self, plan: Plan) -> tuple[str, ...]:
        return ("dense",)

    def emit_backward(self, plan: Plan, config: str, wanted: frozenset[str]) -> SourceFile:
        return self.emit(plan, config)

    def build_backward(self, plan: Plan, config: str, wanted: frozenset[str]) -> None:
        return None

    def prepare_backward(self, built: None, plan: Plan, call: Call, wanted: frozenset[str]) -> BackwardLaunch:
        names = ("q", "k", "v", *(i.name for i in plan.spec.inputs if i.axes))
        asked = {"q", "k", "v", *(view.tensor for view in views(plan.spec)), *wanted}
        return partial(differentiate, plan.spec, call.layout, tuple(name in asked for name in names))


def differentiate(
    spec: Spec,
    layout: str,
    wanted: Sequence[bool],
    dout: Tensor,
    dlse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rows: Tensor | None,
    inputs: Sequence[Tensor],
    scalars: Sequence[float],
) -> list[Tensor | None]:
    """The gradients of the reference by autograd in float64, each rounded once, to the dtype of its tensor."""
    import torch

    with recorded():
        leaves = [t.detach().requires_grad_(asked) for t, asked in zip((q, k, v, *inputs), wanted, strict=True)]
        out, lse = run(spec, layout, leaves[:3], leaves[3:], scalars, dlse is not None)
        pairs = [(out, dout)] if dlse is None or lse is None else [(out, dout), (lse, dlse)]
        pairs = [(result, cotangent.double()) for result, cotangent in pairs if result.requires_grad]
        chosen = [leaf for leaf, asked in zip(leaves, wanted, strict=True) if asked]
        if not pairs:
            return [None] * len(leaves)
        results, cotangents = zip(*pairs, strict=True)
        found = iter(torch.autograd.grad(results, chosen, cotangents, allow_unused=True))
    return [next(found) if asked else None for asked in wanted]


def evaluate(
    engine: Any, qkv: tuple[Tensor, Tensor, Tensor], inputs: Sequence[Tensor], scalars: Sequence[float], lse: bool
) -> Any:
    """The reference of an engine's spec in float64, in the engine's layout."""
    out, row = run(engine.spec, engine.layout, qkv, inputs, scalars, lse)
    return (out, row) if lse else out


def run(
    spec: Spec,
    layout: str,
    qkv: Sequence[Tensor],
    inputs: Sequence[Tensor],
    scalars: Sequence[float],
    return_lse: bool,
) -> tuple[Tensor, Tensor | None]:
    """The reference on tensors of either layout; scalars come integers first, then floats, as in a call."""
    turned = [t.transpose(1, 2) if layout == "bnhd" else t for t in qkv]
    values: dict[str, Any] = dict(zip(("q", "k", "v"), turned, strict=True))
    viewed = {view.tensor for view in views(spec)}
    for name, tensor in zip((i.name for i in spec.inputs if i.axes), inputs, strict=True):
        values[name] = tensor.transpose(1, 2) if layout == "bnhd" and name in viewed else tensor
    ints = [i.name for i in spec.inputs if not i.axes and i.type != "float"]
    floats = [i.name for i in spec.inputs if not i.axes and i.type == "float"]
    values |= zip((*ints, *floats), scalars, strict=True)
    lse = None
    if return_lse:
        out, lse = reference(spec, values, return_lse=True)
    else:
        out = reference(spec, values)
    return (out.transpose(1, 2) if layout == "bnhd" else out), lse
