"""The shape of one call: sizes of q, k, v and the checks that every backend relies on.

Every message names the argument, what was given and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from attngen.codegen.problem import Dtype
from attngen.errors import InputError
from attngen.ir.nodes import Grid, KeySet, Layout, Paged, Segments, Spec, View
from attngen.runtime.heads import result_heads

if TYPE_CHECKING:
    from torch import Tensor

DTYPES: dict[str, Dtype] = {"float64": "fp64", "float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
AXES = {"bhnd": (0, 1, 2, 3), "bnhd": (0, 2, 1, 3)}
"""Where batch, head, position and head dimension are, by layout."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """n_b batches, n_h heads of the result, n_q queries, n_k keys."""

    n_b: int
    n_h: int
    n_q: int
    n_k: int


def dtype_name(tensor: Tensor) -> str:
    """torch's name of the element type, without the prefix."""
    return str(tensor.dtype)[6:]


def check_operands(operands: Mapping[str, Tensor], layout: Layout) -> None:
    """Rank, dtype and device of q, k, v and of every other tensor that a view reads."""
    q = operands["q"]
    for name, tensor in operands.items():
        if tensor.dim() != 4:
            raise InputError(
                f"{name}: got shape {tuple(tensor.shape)} of rank {tensor.dim()}; "
                f"layout {layout!r} needs 4 dimensions ({', '.join(layout.upper())})"
            )
    if dtype_name(q) not in DTYPES:
        raise InputError(f"q: got dtype {q.dtype}; allowed: float32, bfloat16, float16, float64")
    for name, tensor in operands.items():
        if tensor.dtype != q.dtype:
            raise InputError(
                f"{name}: got dtype {tensor.dtype}, but q is {q.dtype}; queries, keys and values share one"
            )
        if tensor.device != q.device:
            raise InputError(f"{name}: is on {tensor.device}, but q is on {q.device}; move it there")


def call_sizes(spec: Spec, tensors: Mapping[str, Tensor], layout: Layout) -> Sizes:
    """The sizes of a call from its viewed tensors (q, k, v, ...), after checking that they fit together."""
    b, h, n, d = AXES[layout]
    q, k, v = (tensors[name] for name in ("q", "k", "v"))
    n_b = _batches(spec, {name: tensor.shape[b] for name, tensor in tensors.items()})
    if isinstance(spec.space, Paged):
        _check_pages(spec.space, {"k": k.shape[n], "v": v.shape[n]})
    if k.shape[n] != v.shape[n] and not isinstance(spec.space, Paged):
        raise InputError(f"v: got {v.shape[n]} keys, but k has {k.shape[n]}; k and v have one length")
    for name, tensor in tensors.items():
        if tensor.shape[d] == 0:
            raise InputError(f"{name}: got head dimension 0; give at least 1")
    for dot in (dot for branch in spec.branches for keyset in branch.all_keysets() for dot in keyset.dots):
        one, two = tensors[dot.q.tensor], tensors[dot.k.tensor]
        if _whole(dot.q) and _whole(dot.k) and one.shape[d] != two.shape[d]:
            raise InputError(
                f"{dot.k.tensor}: got head dimension {two.shape[d]}, but {dot.q.tensor} has {one.shape[d]}; "
                "they must be equal"
            )
    for keyset in (keyset for branch in spec.branches for keyset in branch.all_keysets()):
        _check_lengths(keyset, tensors, n, isinstance(spec.space, Paged))
    if isinstance(spec.space, Grid):
        tokens = prod(spec.space.dims)
        for name, tensor in (("q", q), ("k", k)):
            if tensor.shape[n] != tokens:
                dims = " x ".join(map(str, spec.space.dims))
                raise InputError(f"{name}: got {tensor.shape[n]} tokens, but the grid {dims} has {tokens}")
    n_h = result_heads(spec, {name: tensor.shape[h] for name, tensor in tensors.items()})
    return Sizes(n_b, n_h, q.shape[n], k.shape[n])


def _check_lengths(keyset: KeySet, tensors: Mapping[str, Tensor], n: int, paged: bool) -> None:
    """Every dot has the queries of q, and keys as many as there are values."""
    values = tensors[keyset.v.tensor].shape[n]
    for dot in keyset.dots:
        keys, queries = tensors[dot.k.tensor].shape[n], tensors[dot.q.tensor].shape[n]
        if keys != values and not paged:
            raise InputError(
                f"{dot.k.tensor}: got {keys} keys, but {keyset.v.tensor} has {values}; they have one length"
            )
        if queries != tensors["q"].shape[n]:
            raise InputError(f"{dot.q.tensor}: got {queries} queries, but q has {tensors['q'].shape[n]}; give as many")


def _whole(view: View) -> bool:
    return view.start is None and view.stop is None


def _check_pages(space: Paged, sizes: Mapping[str, int]) -> None:
    for name, size in sizes.items():
        if size != space.page:
            raise InputError(f"{name}: got pages of {size} keys; the spec says {space.page}")


def _batches(spec: Spec, sizes: Mapping[str, int]) -> int:
    """The batch of the result: packed sequences have one, and pages of keys and values belong to none."""
    match spec.space:
        case Segments():
            for name in ("q", "k", "v"):
                if sizes[name] != 1:
                    raise InputError(f"{name}: got batch {sizes[name]}; packed sequences have batch 1")
            return 1
        case Paged():
            return _broadcast({name: size for name, size in sizes.items() if name not in ("k", "v")})
        case _:
            return _broadcast(sizes)


def _broadcast(sizes: Mapping[str, int]) -> int:
    largest = 0 if 0 in sizes.values() else max(sizes.values())
    if any(size not in (1, largest) for size in sizes.values()):
        given = ", ".join(map(str, sizes.values()))
        raise InputError(f"{', '.join(sizes)}: got batch sizes {given}; each must be equal or 1")
    return largest
