"""Key ranges over packed sequences against the visible pairs themselves, for any lengths and any tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import attngen
from attngen import masks
from attngen.codegen.analysis import Arrays, Evaluator, Range
from attngen.codegen.analysis.interval import ints
from attngen.codegen.backend import Call
from attngen.codegen.lower.lowered import added_inputs, lowered
from attngen.codegen.plan import Plan
from attngen.ir.evaluate import Environment, evaluate
from attngen.spec import Segments
from tests.codegen.plans import plan_of
from tests.strategies import PATIENT

MASKS: dict[str, Any] = {
    "full": None,
    "causal": masks.causal(),
    "bottom_right": masks.causal(align="bottom_right"),
    "window": masks.window(3, 1),
    "two_parts": masks.prefix(2) | masks.sliding_window(3),
    "three_parts": "(kv < 2) or (abs(kv - q) <= 1) or (kv >= n_k - 1)",
    "hole": "abs(kv - q) > 2",
    "by_query": "where(q < 4, kv < 3, kv > q - 2)",
    "by_sequence": "(kv <= q) == (b % 2 == 0)",
    "blocks": "kv // 3 == q // 3",
    "residues": "(q + kv) % 3 == 0",
    "sizes": "kv < n_q",
    "nothing": "kv < 0",
}

LENGTHS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6)


class Packed:
    """One call: the visible pairs, and the expressions of the lowered plan on its tensors."""

    def __init__(self, mask: Any, lengths: list[tuple[int, int]]) -> None:
        spec = attngen.Spec(mask=mask, space=Segments())
        offsets = {f"cu_seqlens_{n}": ("int64", 8) for n in "qk"}
        self.plan: Plan = plan_of(spec, **offsets)  # type: ignore[arg-type]
        at = [torch.tensor([0, *np.cumsum([pair[i] for pair in lengths])]) for i in range(2)]
        self.n_q, self.n_k = int(at[0][-1]), int(at[1][-1])
        token = torch.empty(1, 1, 1, 1)
        call = Call(1, 1, self.n_q, self.n_k, "bhnd", (token, token, token, *at))
        self.keyset = lowered(self.plan).branches[0].keysets[0]
        self.inputs = {name: t.long() for name, t in added_inputs(self.plan, call).items()}
        self.inputs["window"] = torch.tensor(3)
        self.data = Arrays({name: t.numpy() for name, t in self.inputs.items()})
        self.visible = torch.zeros(self.n_q, self.n_k, dtype=torch.bool)
        for b, (n_q, n_k) in enumerate(lengths):
            sizes = {"n_q": n_q, "n_k": n_k, "n_b": len(lengths), "n_h": 1, "b": b, "h": 0}
            own = {name: torch.tensor(n) for name, n in sizes.items()}
            own |= {"q": torch.arange(n_q)[:, None], "kv": torch.arange(n_k)}
            seen = evaluate(spec.ir.branches[0].mask, Environment(own, self.scalars(spec))).expand(n_q, n_k)
            self.visible[at[0][b] : at[0][b + 1], at[1][b] : at[1][b + 1]] = seen

    def scalars(self, spec: attngen.Spec) -> dict[str, torch.Tensor]:
        found = {name: torch.tensor(binding.fetch()) for name, binding in spec.bindings.items()}
        self.inputs |= found
        self.data = Arrays({name: t.numpy() for name, t in self.inputs.items()})
        return found

    def keys(self, ranges: tuple[Range, ...], first: int, last: int) -> list[tuple[int, int]]:
        """The intervals of a tile, cut to the keys."""
        symbols = {"q_first": first, "q_last": last, "n_q": self.n_q, "n_k": self.n_k, "n_b": 1, "n_h": 1, "h": 0}
        values = Evaluator({name: ints(n, n) for name, n in symbols.items()}, self.data)
        ends = [(values.number(r.lo), values.number(r.hi)) for r in ranges]
        assert all(bool(np.all(end.point())) for pair in ends for end in pair)
        return [(max(int(lo.lo), 0), min(int(hi.lo), self.n_k)) for lo, hi in ends if int(lo.lo) < int(hi.lo)]


def union(intervals: list[tuple[int, int]]) -> set[int]:
    return {key for lo, hi in intervals for key in range(lo, hi)}


@pytest.mark.parametrize("name", MASKS)
@given(lengths=LENGTHS, data=st.data())
@settings(PATIENT, max_examples=40)
def test_ranges_of_any_tile(name: str, lengths: list[tuple[int, int]], data: st.DataObject) -> None:
    packed = Packed(MASKS[name], lengths)
    symbols = {
        **{name: torch.tensor(n) for name, n in (("n_q", packed.n_q), ("n_k", packed.n_k), ("n_b", 1), ("n_h", 1))},
        "b": torch.tensor(0),
        "h": torch.tensor(0),
        "q": torch.arange(packed.n_q)[:, None],
        "kv": torch.arange(packed.n_k),
    }
    if packed.n_q == 0:
        return
    dense = evaluate(packed.keyset.mask, Environment(symbols, packed.inputs))
    assert torch.equal(dense.expand(packed.visible.shape), packed.visible)
    ranges = packed.keyset.ranges or packed.keyset.within
    assert ranges is not None
    assert (packed.keyset.ranges is None) == (packed.plan.branches[0].keysets[0].ranges is None)
    first = data.draw(st.integers(0, packed.n_q - 1))
    last = data.draw(st.integers(first, packed.n_q - 1))
    rows = packed.visible[first : last + 1]
    outer = union(packed.keys(ranges.outer, first, last))
    assert set(rows.any(0).nonzero().flatten().tolist()) <= outer
    inner = packed.keys(ranges.inner, first, last)
    assert all(bool(rows[:, lo:hi].all()) for lo, hi in inner)
    # A part of the tile visits no key that the tile does not.
    begin = data.draw(st.integers(first, last))
    end = data.draw(st.integers(begin, last))
    assert union(packed.keys(ranges.outer, begin, end)) <= outer


def test_a_tile_inside_a_sequence_is_as_tight_as_that_sequence() -> None:
    packed = Packed(masks.sliding_window(3), [(100, 100), (50, 50)])
    ranges = packed.keyset.ranges
    assert ranges is not None
    assert packed.keys(ranges.outer, 40, 44) == [(38, 45)]
    assert packed.keys(ranges.outer, 110, 119) == [(108, 120)]
    # Across the seam: what the last rows of one and the first rows of the other see.
    assert packed.keys(ranges.outer, 98, 101) == [(96, 102)]
