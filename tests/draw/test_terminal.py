from __future__ import annotations

import pytest
import torch

import attngen
from attngen import draw, masks
from attngen.errors import InputError

CAUSAL = """\
causal   1048576 queries x 1048576 keys, one cell is 262144 x 131072
++......
##++....
####++..
######++"""

HEADS = """\
across: branch 0: heads 0-1   4 queries x 4 keys, one cell is 1 x 1
# . . .
# # . .
# # # .
# # # #
visible 62.50 % (10 of 16 pairs)

across: branch 0: heads 2-3   4 queries x 4 keys, one cell is 1 x 1
# # # #
. # # #
. . # #
. . . #
visible 62.50 % (10 of 16 pairs)"""


def test_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attngen.draw.terminal.COLUMNS", 8)
    monkeypatch.setattr("attngen.draw.terminal.SPACED", 4)
    text = draw.ascii(attngen.Spec(mask=masks.causal()), 1 << 20)
    assert text.startswith(CAUSAL)
    assert "visible 50.00 % (549756338176 of 1099511627776 pairs)" in text


def test_one_picture_for_each_pattern_of_heads() -> None:
    spec = attngen.mechanisms.dual_triangle("across_heads").named("across")
    text = draw.ascii(spec, 4, n_h=4)
    assert text.startswith(HEADS)
    assert text.count("branch 1") == 2


def test_batches_share_a_picture_where_they_can() -> None:
    lengths = torch.tensor([2, 3, 2])
    text = draw.ascii(attngen.Spec(mask=masks.lengths(lengths)), 3)
    assert "lengths: batches 0, 2   3 queries" in text
    assert "lengths: batch 1   3 queries" in text


def test_one_query_and_many_keys() -> None:
    text = draw.ascii(attngen.Spec(mask=masks.sliding_window(16)), 1, 64)
    assert text.splitlines()[1] == "." * 48 + "#" * 16


def test_what_is_not_known_is_said() -> None:
    text = draw.ascii(attngen.Spec(mask="kv < lengths[b]"), 4)
    assert "+ + + +" in text
    assert "undecided without values of: lengths" in text
    known = draw.ascii(attngen.Spec(mask="kv < lengths[b]"), 4, values={"lengths": torch.tensor([3])})
    assert "# # # ." in known


def test_sizes_are_checked() -> None:
    with pytest.raises(InputError, match="size: got 0 for queries; allowed: an integer >= 1"):
        draw.ascii(attngen.Spec(), 0, 4)


def test_the_default_size_fits_the_captured_tensors() -> None:
    assert "7 queries x 7 keys" in draw.ascii(attngen.Spec(mask=masks.document(torch.zeros(7, dtype=torch.int64))))
