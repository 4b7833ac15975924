"""The last resort: the dense float64 reference, rounded to the dtype of the call. Needs O(Nq Nk) memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen.codegen.backend import Call, Launch, SourceFile
from attngen.codegen.plan import Plan
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
        spec, layout, return_lse = plan.spec, call.layout, plan.problem.return_lse

        def launch(
            q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor], scalars: Sequence[float]
        ) -> tuple[Tensor, Tensor | None]:
            out, lse = run(spec, layout, (q, k, v), inputs, scalars, return_lse)
            double = str(q.dtype) == "torch.float64"
            return out.to(q.dtype).contiguous(), None if lse is None else (lse if double else lse.float())

        return launch


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
