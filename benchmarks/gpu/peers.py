"""The peers: PyTorch's SDPA with a forced backend, and FlexAttention after max-autotune."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.works import Work

Call = Callable[[], Any]


def sdpa(name: str, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Call:
    """SDPA by one backend alone: "cudnn" or "flash". A dry run has the plain formula in cuDNN's place."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    chosen = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}[name]
    if q.device.type == "cpu":
        chosen = SDPBackend.MATH

    def run() -> Tensor:
        with sdpa_kernel(chosen):
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    return run


def flex(work: Work, q: Tensor, k: Tensor, v: Tensor, captured: dict[str, Tensor]) -> Call:
    """FlexAttention, its block mask made beforehand; the first call of either direction tunes, the others replay."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    size = work.size
    score = None if work.score is None else work.score(size, captured)
    block_mask = None
    if work.mask is not None:
        # Smaller blocks where a dry run has few tokens.
        block = min(128, size.n)
        block_mask = create_block_mask(
            work.mask(size, captured), None, None, size.n, size.n, device=q.device.type, BLOCK_SIZE=block
        )
    function: Any = flex_attention
    if q.device.type == "cuda":
        import torch._functorch.config as functorch

        # A graph of every variant before this one would count against the limit of recompilations.
        torch._dynamo.reset()
        # The backward is timed again and again after one forward.
        functorch.donated_buffer = False
        function = torch.compile(flex_attention, dynamic=False, mode="max-autotune-no-cudagraphs")
    return lambda: function(q, k, v, score_mod=score, block_mask=block_mask)


def forward(call: Call) -> Call:
    """The call, without anything kept for gradients."""

    def run() -> Any:
        with torch.no_grad():
            return call()

    return run


def backward(call: Call, dout: Tensor, *tensors: Tensor) -> Call:
    """The gradients by the tensors after one forward, which is not timed."""
    for tensor in tensors:
        tensor.requires_grad_()
    out = call()
    return lambda: torch.autograd.grad(out, tensors, dout, retain_graph=True)
