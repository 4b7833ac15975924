"""Whether a kernel runs a lifted attention: asked before it is put into a graph, with tensors that hold no data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen.codegen.backends import for_device
from attngen.codegen.plan import make_plan
from attngen.errors import AttngenError

if TYPE_CHECKING:
    from attngen.kernel import Kernel


def refusal(kernel: Kernel, q: Any, k: Any, v: Any, inputs: dict[str, Any], gradients: bool) -> str | None:
    """Why no kernel runs it, or None. The dense reference counts only where it was asked for: PyTorch is faster."""
    engine = kernel.engine()
    tensors = [inputs[i.name] for i in engine.tensor_inputs]
    try:
        plan = make_plan(engine.spec, engine.traced_problem(q, k, v, tensors, False))
        engine.sizes(q, k, v, tensors)
    except AttngenError as error:
        return error.message
    reasons = []
    for backend in for_device(q.device.type, engine.backend):
        reason = backend.supports(plan)
        if reason is None and gradients:
            reason = backend.supports_backward(plan)
        if reason is None:
            if backend.name == "reference" and engine.backend is None:
                break
            return None
        reasons.append(f"{backend.name}: {reason}")
    return "; ".join(reasons) or f"no backend for device {q.device.type!r}"
