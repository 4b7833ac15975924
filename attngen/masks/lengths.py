"""Padding on the right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import tensor
from attngen.masks.mask import Mask
from attngen.remember import remembered

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def lengths(kv_lengths: Tensor) -> Mask:
    """The first kv_lengths[b] keys of batch b: every row of that batch sees exactly kv_lengths[b] keys.

    `kv_lengths` is an integer tensor (B,). Rows of padded queries are computed like any other; their values are the
    caller's to ignore.
    """
    kv_lengths = tensor("kv_lengths", kv_lengths, (1,), "(B,)", integral=True)
    return Mask.of(lambda b, kv: kv < kv_lengths[b], "lengths")
