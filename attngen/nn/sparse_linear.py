"""SLA as a module, with the arguments of the released one."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from attngen.api import compile
from attngen.arguments import integer
from attngen.errors import InputError
from attngen.mechanisms import sparse_linear


class SparseLinearAttention(nn.Module):
    """O = softmax attention over the critical blocks + Linear(linear attention): `mechanisms.sparse_linear`, trainable.

    `head_dim`: D. `topk`: the share of key blocks that is critical, at least one block. `feature_map`: "softmax",
    "elu" or "relu". `BLKQ`, `BLKK`: queries and keys of a block. `use_bf16`: compute in bfloat16 (True), float16
    (False), or in the dtype of q (None); the result has the dtype of q. `tie_feature_map_qk`: q and k have one map
    either way. `bottom`, `linear_domain`, `eps`: as in `mechanisms.sparse_linear`; the defaults are those of the
    released code, "marginal" is the paper. `proj_l` is the projection, float32, weight and bias zero until trained.
    Source: SLA, arXiv 2509.24006; thu-ml/SLA.
    """

    def __init__(
        self,
        head_dim: int,
        topk: float,
        feature_map: str = "softmax",
        BLKQ: int = 64,
        BLKK: int = 64,
        use_bf16: bool | None = True,
        tie_feature_map_qk: bool = True,
        *,
        bottom: float = 0.0,
        linear_domain: Literal["marginal", "complement", "all"] = "all",
        eps: float = 1e-5,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        integer("head_dim", head_dim, 1)
        self.head_dim, self.topk, self.block = head_dim, topk, BLKK
        self.dtype = None if use_bf16 is None else torch.bfloat16 if use_bf16 else torch.float16
        spec = sparse_linear(topk, bottom, BLKQ, BLKK, feature_map, linear_domain, eps=eps)
        self._kernel: Any = compile(spec, backend=backend)
        self.proj_l = nn.Linear(head_dim, head_dim, dtype=torch.float32)
        nn.init.zeros_(self.proj_l.weight)
        nn.init.zeros_(self.proj_l.bias)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, return_sparsity: bool = False) -> Tensor | tuple[Tensor, float]:
        """q (B, H, Nq, D), k and v (B, Hk, Nk, D) -> (B, H, Nq, D); with `return_sparsity` also the share of key blocks
        that softmax attention looks at."""
        for name, tensor in (("q", q), ("k", k), ("v", v)):
            if tensor.dim() != 4 or tensor.shape[3] != self.head_dim:
                raise InputError(
                    f"{name}: got shape {tuple(tensor.shape)}; (B, H, N, {self.head_dim}) is needed, as head_dim says"
                )
        dtype = q.dtype
        if self.dtype is not None:
            q, k, v = (t.to(self.dtype) for t in (q, k, v))
        out: Tensor = (self._kernel(q, k, v, projection=self.proj_l.weight.T) + self.proj_l.bias).to(dtype)
        if not return_sparsity:
            return out
        blocks = -(-k.shape[2] // self.block)
        return out, max(1, int(self.topk * blocks)) / max(1, blocks)

    def extra_repr(self) -> str:
        return f"head_dim={self.head_dim}, topk={self.topk}"
