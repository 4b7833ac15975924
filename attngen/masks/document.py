"""Packed documents."""

# mypy: allow-untyped-defs
from __future__ import annotations

from typing import TYPE_CHECKING

from attngen.arguments import tensor
from attngen.errors import SpecError
from attngen.masks.mask import Mask
from attngen.remember import remembered

if TYPE_CHECKING:
    from torch import Tensor


@remembered
def document(ids: Tensor | None = None, cu_seqlens: Tensor | None = None) -> Mask:
    """Keys of the query's own document: a row sees as many keys as its document has tokens.

    Give `ids`, an integer tensor (N,) or (B, N) with the document of every token, or `cu_seqlens`, an integer tensor
    (S + 1,) of increasing offsets from 0 to N, from which the ids are derived anew at every call. Queries and keys are
    numbered alike: query q and key kv are tokens q and kv of one packed sequence, also where n_q != n_k (no
    bottom-right offset). Positions are those of the packed sequence. Combine with `causal()` for packed decoders.
    Deriving ids from `cu_seqlens` on a GPU waits for it once per call; ids do not.
    """
    if (ids is None) == (cu_seqlens is None):
        given = "both" if ids is not None else "neither"
        raise SpecError(f"ids, cu_seqlens: got {given}; give exactly one of them")
    if ids is None:
        offsets = tensor("cu_seqlens", cu_seqlens, (1,), "(S + 1,)", integral=True)
        return _of_offsets(offsets)
    ids = tensor("ids", ids, (1, 2), "(N,) or (B, N)", integral=True)
    if ids.dim() == 1:
        return Mask.of(lambda q, kv: ids[q] == ids[kv], "document")
    return Mask.of(lambda b, q, kv: ids[b, q] == ids[b, kv], "document")


def _of_offsets(cu_seqlens: Tensor) -> Mask:
    import torch

    def mask(q, kv):
        ids = torch.repeat_interleave(torch.diff(cu_seqlens))  # 0 for each token of the first document, 1 of the next
        return ids[q] == ids[kv]

    return Mask.of(mask, "document")
