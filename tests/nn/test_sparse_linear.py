"""The module beside the formulas of the released code, written out in torch."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

from attngen.errors import InputError
from attngen.nn import SparseLinearAttention

B, H, N, D, BLOCK = 2, 3, 75, 8, 16
pytestmark = pytest.mark.cxx


def released(q: Tensor, k: Tensor, v: Tensor, topk: float, weight: Tensor, bias: Tensor) -> Tensor:
    """Softmax attention over the best blocks by pooled scores, plus the projection of linear attention to all keys."""
    centred = k - k.mean(-2, keepdim=True)
    pooled = [torch.stack([part.mean(2) for part in t.split(BLOCK, 2)], 2) for t in (q, centred)]
    scores = pooled[0] @ pooled[1].mT
    chosen = scores.topk(max(1, int(topk * scores.shape[-1])), -1).indices
    table = torch.zeros(scores.shape, dtype=torch.bool).scatter(-1, chosen, True)
    seen = table.repeat_interleave(BLOCK, 2).repeat_interleave(BLOCK, 3)[:, :, : q.shape[2], : k.shape[2]]
    sparse = torch.where(seen, q @ k.mT / D**0.5, -torch.inf).softmax(-1) @ v
    phi_q, phi_k = q.softmax(-1), k.softmax(-1)
    linear = phi_q @ (phi_k.mT @ v) / (1e-5 + (phi_q * phi_k.sum(-2, keepdim=True)).sum(-1, keepdim=True))
    return sparse + linear @ weight.T + bias


def trained(**options: object) -> SparseLinearAttention:
    module = SparseLinearAttention(D, 0.4, BLKQ=BLOCK, BLKK=BLOCK, **options)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        module.proj_l.weight.copy_(torch.randn(D, D, generator=generator))
        module.proj_l.bias.copy_(torch.randn(D, generator=generator))
    return module


def operands() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(B, H, N, D, generator=generator).requires_grad_() for _ in range(3)]


def test_values_and_gradients_are_those_of_the_released_code() -> None:
    module, qkv = trained(use_bf16=None), operands()
    out, share = module(*qkv, return_sparsity=True)
    assert share == 2 / 5
    exact = released(*(t.double() for t in qkv), 0.4, *(p.double() for p in module.proj_l.parameters()))  # type: ignore[arg-type]
    assert (out - exact).norm() <= 1e-5 * exact.norm()
    by = [*qkv, *module.proj_l.parameters()]
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
    found = torch.autograd.grad(out, by, cotangent)
    wanted = torch.autograd.grad(exact, by, cotangent.double())
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() <= 2e-5 * other.norm()


def test_half_precision_is_taken_inside() -> None:
    module, qkv = trained(), operands()
    out = module(*qkv)
    rounded = [t.to(torch.bfloat16).double() for t in qkv]
    exact = released(*rounded, 0.4, *(p.double() for p in module.proj_l.parameters()))  # type: ignore[arg-type]
    assert out.dtype == torch.float32
    assert (out - exact).norm() <= 1e-2 * exact.norm()


def test_untrained_it_is_the_sparse_branch_alone() -> None:
    module = SparseLinearAttention(D, 1.0, use_bf16=None)
    q, k, v = (t.detach() for t in operands())
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert (module(q, k, v) - exact).norm() <= 1e-5 * exact.norm()
    assert "head_dim=8, topk=1.0" in repr(module)


def test_modules_are_copied_and_their_weights_saved() -> None:
    module = trained(use_bf16=None)
    other = copy.deepcopy(module)
    other.load_state_dict(pickle.loads(pickle.dumps(module.state_dict())))
    qkv = [t.detach() for t in operands()]
    assert torch.equal(module(*qkv), other(*qkv))


def test_a_head_of_another_width_is_refused() -> None:
    q = torch.zeros(1, 1, 4, 6)
    with pytest.raises(InputError, match=r"q: got shape \(1, 1, 4, 6\); \(B, H, N, 8\) is needed, as head_dim says"):
        trained()(q, q, q)
