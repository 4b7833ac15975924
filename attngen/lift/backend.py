"""The backend that Dynamo hands its graphs to: attentions become kernels, the rest goes on to PyTorch as it was."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule

from attngen.errors import AttngenError, LiftError
from attngen.kernel import Kernel
from attngen.lift.attention import attentions
from attngen.lift.distribute import distributed
from attngen.lift.expand import expanded
from attngen.lift.nodes import example, source
from attngen.lift.rebind import changes, rebound, unsafe
from attngen.lift.rewrite import Draft, without_views
from attngen.lift.support import refusal

if TYPE_CHECKING:
    from attngen.settings import AutotuneMode
    from attngen.spec import Spec

log = logging.getLogger("attngen")
Run = Callable[..., Any]


@dataclass(eq=False)
class Backend:
    """`Backend(...)(graph, inputs)` is the graph with kernels. `inner` compiles what is left; None runs it eagerly.

    Backends of equal options are equal, so that Dynamo shares graphs among them, as among the layers of a model.
    """

    name: str
    fullgraph: bool = False
    inner: Callable[[GraphModule, Sequence[Any]], Run] | None = None
    kernels: str | None = None
    autotune: AutotuneMode | None = None
    lifted: list[Spec] = field(default_factory=list)
    told: set[str] = field(default_factory=set)

    def __eq__(self, other: object) -> bool:
        return type(other) is Backend and self._options() == other._options()

    def __hash__(self) -> int:
        return hash(self._options())

    def _options(self) -> tuple[Any, ...]:
        return (self.fullgraph, self.inner, self.kernels, self.autotune)

    def __call__(self, module: GraphModule, inputs: Sequence[Any]) -> Run:
        original = GraphModule(module, copy.deepcopy(module.graph))
        refused: list[LiftError] = []
        try:
            found = self.rewrite(module, refused)
        except Exception as fault:  # ours, and no reason to break a function that PyTorch runs
            found, refused = 0, [LiftError(f"attngen failed to rewrite it, which is a bug: {fault!r}")]
        if self.fullgraph and not found and not refused:
            refused.append(LiftError("there is no attention in this function: no softmax or sigmoid of a product"))
        for reason in refused:
            self.refuse(reason)
        if not found:
            return self.compiled(original, inputs)
        module.recompile()
        return Guarded(self, self.compiled(module, inputs), original)

    def rewrite(self, module: GraphModule, refused: list[LiftError]) -> int:
        """Puts a kernel in the place of every attention that lifts; gives their number."""
        graph, count = module.graph, 0
        expanded(graph)
        rebound(graph)
        distributed(graph)
        for found in attentions(graph, self.name, refused):
            reason = unsafe(graph, found.seen)
            if reason is not None:
                refused.append(reason)
                continue
            draft = Draft(graph, found)
            kernel = Kernel(found.spec, backend=self.kernels, autotune=self.autotune)
            q, k, v = (example(node) for node in draft.operands)
            inputs = {name: example(node) for name, node in draft.inputs.items()}
            why = refusal(kernel, q, k, v, inputs, wants_gradients(q, k, v, *inputs.values()))
            if why is not None:
                draft.drop()
                refused.append(LiftError(f"no kernel runs this attention ({why})", source=source(found.root)))
                continue
            draft.put(module, kernel, count)
            self.lifted.append(found.spec)
            count += 1
        if count:
            without_views(graph)
            graph.lint()
        return count

    def compiled(self, module: GraphModule, inputs: Sequence[Any]) -> Run:
        """The graph to run."""
        return module.forward if self.inner is None else self.inner(module, inputs)

    def refuse(self, reason: AttngenError) -> None:
        """Raises the reason under `fullgraph=True`; else it is told once."""
        if self.fullgraph:
            raise reason
        text = str(reason)
        if text not in self.told:
            self.told.add(text)
            log.warning("%s: an attention is left to PyTorch: %s", self.name, text)


class Guarded:
    """A graph with kernels. If one cannot run after all (an index leaves its table), the graph runs as it was."""

    def __init__(self, backend: Backend, run: Run, original: GraphModule) -> None:
        self.backend = backend
        self.run = run
        self.original = original
        self.repeatable = not any(map(changes, original.graph.nodes))

    def __call__(self, *args: Any) -> Any:
        try:
            return self.run(*args)
        except AttngenError as error:
            if not self.repeatable:
                raise
            self.backend.refuse(error)
            self.run = self.original.forward
            return self.run(*args)


def wants_gradients(*values: Any) -> bool:
    """Whether a gradient by any of the tensors may be asked for."""
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
