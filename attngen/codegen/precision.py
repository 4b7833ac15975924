"""How float32 products may be taken on GPUs: as torch takes its own."""

from __future__ import annotations


def bare_tf32(device: str) -> bool:
    """Whether torch is told to round float32 operands of products to tf32, 10 bits, on devices of this type.

    `torch.backends.cuda.matmul.allow_tf32`, `torch.set_float32_matmul_precision` and `fp32_precision` all say so.
    """
    if device == "cpu":
        return False
    import torch

    return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")
