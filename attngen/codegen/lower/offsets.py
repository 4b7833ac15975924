"""The added inputs of packed sequences, made from the offsets of a call and kept while those stay the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attngen.codegen.kept import Kept
from attngen.codegen.lower.units import Division
from attngen.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from attngen.codegen.backend import Call
    from attngen.ir.nodes import Segments

SHOWN = 8
"""Offsets that a message shows at most."""


class PackedInputs:
    """Calls of one set of shapes. `names` are those of the tensor inputs, in their order."""

    def __init__(self, space: Segments, names: Sequence[str], call: Call, division: Division) -> None:
        self.names = (space.q_offsets, space.k_offsets)
        self.places = tuple(names.index(name) for name in self.names)
        self.totals = (call.n_q, call.n_k)
        self.device = call.operands[0].device
        given = [call.operands[3 + place].shape[0] for place in self.places]
        if given[0] != given[1]:
            raise InputError(f"{space.k_offsets}: got {given[1]} entries, {space.q_offsets} has {given[0]}")
        if given[0] < 2:
            raise InputError(f"{space.q_offsets}: got no sequence; offsets hold at least two entries")
        self.sequences, self.division = given[0] - 1, division
        self.made = Kept(self._made, self.places)
        """For each query token the number of its sequence, begin and end of its queries and of its keys; how many
        sequences; the table of units. Raises `InputError` for offsets that do not rise from 0 to the tokens."""

    def placeholders(self) -> tuple[Tensor, ...]:
        """Tensors of the shapes that a call will have."""
        import torch

        entries = self.division.most_entries(self.sequences, self.totals[0])
        return tuple(torch.empty(n, dtype=torch.int32, device=self.device) for n in (*[self.totals[0]] * 5, 1, entries))

    def _made(self, offsets: Sequence[Tensor], _: Sequence[float]) -> tuple[Tensor, ...]:
        import torch

        for name, at, total in zip(self.names, offsets, self.totals, strict=True):
            if int(at[0]) != 0 or int(at[-1]) != total or bool((at[1:] < at[:-1]).any()):
                raise InputError(f"{name}: offsets must rise from 0 to the {total} tokens, got {_shown(at.tolist())}")
        q, k = (at.to(torch.int32) for at in offsets)
        lengths = (q[1:] - q[:-1]).long()
        number = torch.arange(self.sequences, dtype=torch.int32)
        each = (number, q[:-1], q[1:], k[:-1], k[1:])
        units = torch.zeros(self.division.most_entries(self.sequences, self.totals[0]), dtype=torch.int32)
        table = torch.from_numpy(self.division.table(*(at.long().numpy() for at in offsets)))
        units[: len(table)] = table
        count = torch.tensor([self.sequences], dtype=torch.int32)
        return tuple(t.to(self.device) for t in (*(t.repeat_interleave(lengths) for t in each), count, units))


def _shown(numbers: list[Any]) -> str:
    if len(numbers) <= SHOWN:
        return str(numbers)
    half = SHOWN // 2
    return f"[{', '.join(map(str, numbers[:half]))}, ..., {', '.join(map(str, numbers[-half:]))}]"
