"""The public Spec: its parts, its text, equality, live inputs, errors."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from attngen import masks, normalizers, scores, weights
from attngen.errors import AttngenError, SpecError
from attngen.ir import nodes
from attngen.spec import Grid, Segments, Spec
from tests.library.dense import qkv, run
from tests.library.dense import scores as dots


def soft_capped(score, b, h, q, kv):
    return 30 * torch.tanh(score / 30)


def odd(b, h, q_idx, kv_idx):
    return kv_idx % 2 == 1


class TestParts:
    def test_default_is_softmax_attention(self):
        tensors = qkv()
        assert torch.allclose(run(Spec(), tensors), torch.softmax(dots(tensors), -1) @ tensors["v"])

    def test_functions_texts_and_objects_are_the_same(self):
        specs = [Spec(mask=m) for m in (lambda q, kv: kv <= q, "kv <= q", masks.causal())]
        assert len({spec.ir for spec in specs}) == 1

    def test_from_function_knows_masks_and_scores(self):
        mask, score = Spec.from_function(odd), Spec.from_function(soft_capped, mask=odd)
        assert (mask.ir.name, score.ir.name) == ("odd", "soft_capped")
        assert mask.ir.branches[0].mask == score.ir.branches[0].mask
        assert score.ir.branches[0].score != mask.ir.branches[0].score

    def test_name(self):
        assert Spec(mask=masks.causal() & masks.sink(3), score=soft_capped).ir.name == "causal_sink_soft_capped"
        assert Spec().ir.name == "attention"
        assert Spec(name="mine").ir.name == "mine"
        assert Spec().named("other thing").ir.name == "other_thing"

    @pytest.mark.parametrize(
        ("scale", "expected"),
        [
            (0.3, 0.3),
            (2, 2.0),
            (torch.tensor(0.7), 0.7),
            (torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.1, 0.2, 0.3])[:, None, None]),
            (torch.full((2, 3, 7), 0.4), 0.4),
            (
                lambda q, d: math.log(3) * torch.log(q + 2) / d,
                (math.log(3) * torch.log(torch.arange(2.0, 9)) / 8)[:, None],
            ),
            ("1.0 / to_float(d)", 1 / 8),
        ],
        ids=["float", "int", "scalar", "head", "row", "function", "text"],
    )
    def test_scale(self, scale, expected):
        tensors = qkv()
        s = tensors["q"] @ tensors["k"].mT * expected
        assert torch.allclose(run(Spec(scale=scale), tensors), torch.softmax(s, -1) @ tensors["v"], atol=1e-6)

    def test_scale_is_a_run_time_number(self):
        assert Spec(scale=0.3).ir == Spec(scale=0.5).ir
        assert Spec(scale=0.3) != Spec(scale=0.5)

    def test_segments_declare_their_inputs(self):
        spec = Spec(mask=masks.causal(), space=Segments())
        assert [i.name for i in spec.inputs_needed] == ["cu_seqlens_q", "cu_seqlens_k"]
        tensors = qkv(b=1, n_q=9, n_k=9)
        offsets = torch.tensor([0, 4, 9])
        out = run(spec, tensors, cu_seqlens_q=offsets, cu_seqlens_k=offsets)
        packed = Spec(mask=masks.causal() & masks.document(cu_seqlens=offsets))
        assert torch.allclose(out, run(packed, tensors))

    def test_paged_declares_its_inputs(self):
        spec = Spec(space=nodes.Paged(16))
        assert [i.axes for i in spec.inputs_needed] == [("b", "?"), ("b",)]

    def test_grid(self):
        assert Grid(3, 4) == Grid((3, 4)) == Grid([3, 4]) == nodes.Grid((3, 4))
        assert Grid(5) == nodes.Grid((5,))

    def test_coordinates_of_a_user_function(self):
        def same_row(q, kv):
            y, _ = q
            return y == kv[0]

        out = run(Spec(mask=same_row, space=Grid(2, 3), normalizer="none"), qkv(n_q=6, n_k=6))
        tensors = qkv(n_q=6, n_k=6)
        seen = torch.arange(6)[:, None] // 3 == torch.arange(6) // 3
        assert torch.allclose(out, torch.where(seen, dots(tensors), 0.0) @ tensors["v"])


class TestInputs:
    def test_captured_ones_are_bound_and_others_needed(self):
        slopes = torch.ones(3)
        spec = Spec(score=scores.alibi(slopes), mask="kv < n[b]", scale="temperature[h]")
        assert [i.name for i in spec.inputs_needed] == ["n", "temperature"]
        assert spec.bindings["slopes"].fetch() is slopes
        assert [i.axes for i in spec.inputs_needed] == [("b",), ("h",)]
        assert [i.type for i in spec.inputs_needed] == ["int", "float"]

    def test_given_per_call(self):
        tensors, n = qkv(), torch.tensor([3, 5])
        out = run(Spec(mask="kv < n[b]"), tensors, n=n)
        assert torch.allclose(out, run(Spec(mask=masks.lengths(n)), tensors))

    def test_one_name_in_two_texts_is_one_input(self):
        spec = Spec(score="score + bias[h]", scale="abs(bias[h])")
        assert [i.name for i in spec.ir.inputs] == ["bias"]

    def test_equal_names_of_captured_values_stay_apart(self):
        spec = Spec(mask=masks.sink(2) | masks.prefix(4))
        assert [binding.fetch() for binding in spec.bindings.values()] == [2, 4]

    def test_the_same_tensor_in_mask_and_score_is_one_input(self):
        table = torch.rand(9)
        spec = Spec(mask=lambda kv: table[kv] > 0.5, score=lambda score, kv: score * table[kv])
        assert [i.name for i in spec.ir.inputs] == ["table"]

    def test_inputs_of_a_score_that_is_overwritten_are_dropped(self):
        assert Spec(score=scores.soft_cap(3) >> (lambda q: 1.0 * q)).ir.inputs == ()

    def test_tensors_of_normalizers_and_weights_are_inputs(self):
        sink, seed = torch.zeros(3), torch.tensor([1])
        spec = Spec(normalizer=normalizers.softmax(sink=sink), weight=weights.dropout(0.1, seed))
        assert spec.bindings["sink"].fetch() is sink
        assert {"sink", "seed", "p"} == set(spec.bindings)


class TestValue:
    def test_text_parses_back(self):
        spec = Spec(masks.causal() & masks.sliding_window(9), scores.soft_cap(3), normalizers.softmax(sink=1.0))
        parsed = Spec.parse(str(spec))
        assert parsed.ir == spec.ir
        assert str(parsed) == str(spec)
        assert len(parsed.inputs_needed) == 3
        assert parsed != spec

    def test_equality_is_that_of_the_ir_and_of_the_variables(self):
        slopes, other = torch.ones(3), torch.ones(3)
        score = scores.alibi(slopes)
        assert Spec(score=score) == Spec(score=score)
        assert hash(Spec(score=score)) == hash(Spec(score=score))
        assert Spec(score=score) != Spec(score=scores.alibi(other))
        assert Spec() == Spec(name="other")

    def test_immutable(self):
        with pytest.raises(AttributeError):
            Spec().ir = None
        with pytest.raises(AttributeError):
            masks.causal().name = "x"

    def test_of_nodes(self):
        branch = Spec(mask=masks.causal()).ir.branches[0]
        assert Spec.of(branch).ir == Spec(mask=masks.causal()).ir
        two = Spec.of(branch, branch, combine=nodes.Concat(), name="two")
        assert len(two.ir.branches) == 2

    def test_repr(self):
        assert repr(Spec(name="mine")) == "<attngen.Spec mine>"
        assert repr(masks.causal() | masks.sink(2)) == "<attngen mask (causal | sink)>"


BAD = [
    (lambda: Spec(scale=math.nan), "scale: got nan; allowed: a finite number"),
    (lambda: Spec(scale=-math.inf), "scale: got -inf; allowed: a finite number"),
    (lambda: Spec(scale=[1]), r"scale: got \[1\]; allowed: a finite number, a floating-point tensor"),
    (
        lambda: Spec(scale=torch.ones(2, 2)),
        r"scale: got a tensor of float32 \(2, 2\); allowed: a floating-point tensor",
    ),
    (lambda: Spec(mask=3), "mask: got 3; allowed: a function, a text or an object of attngen.masks"),
    (lambda: Spec(mask=scores.soft_cap(3)), "mask: got <attngen score soft_cap>; allowed: a function"),
    (lambda: Spec(mask=torch.ones(3, 3)), r"mask: got a tensor of float32 \(3, 3\); allowed: a function"),
    (lambda: Spec(score=torch.tanh), "tanh: a builtin_function_or_method cannot be traced"),
    (
        lambda: Spec(mask=masks.causal),
        r"mask: got <function causal .*; allowed: what it returns; write masks.causal\(...\)",
    ),
    (lambda: Spec(score=scores.alibi), r"score: got <function alibi .*; allowed: what it returns; write scores.alibi"),
    (lambda: Spec(space=(3, 4)), r"space: got \(3, 4\); allowed: None, attngen.Grid\(dims\), Segments\(\) or Paged"),
    (lambda: Grid(0, 3), r"dims: got \(0, 3\); allowed: 1 to 3 integers >= 1"),
    (lambda: Grid(2, 3, 4, 5), "dims: got .*; allowed: 1 to 3 integers >= 1"),
    (lambda: Spec(mask=masks.neighborhood((3, 4), 2), space=Grid(4, 3)), r"neighborhood is on the grid \(3, 4\)"),
    (lambda: Spec(mask="q +"), "expected an expression"),
    (lambda: Spec(mask="q + kv"), r"mask: 'q \+ kv' is a number; it must be a condition"),
    (lambda: Spec(score="q < kv"), "score: 'q < kv' is a condition; it must be a number"),
    (lambda: Spec(mask="a[q] < a[q, kv]"), "mask: 'a' is read with 1 and with 2 indices"),
    (lambda: Spec(mask=lambda q, kv: q - kv), "this mask returns an int and must return a bool"),
    (lambda: Spec(score=lambda score, q: score > q), "this score returns a bool and must return a number"),
    (lambda: Spec(mask=lambda q, key: q >= key), "mask: unknown parameter 'key'; known names"),
    (lambda: Spec.from_function(odd, mask=odd), "mask: got a second one beside the function odd; join them"),
    (lambda: Spec.from_ir(Spec().ir, {"x": None}), "bindings: 'x' is not an input of the spec"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments(make, message):
    with pytest.raises(AttngenError, match=message):
        make()


def test_the_name_of_an_input_given_per_call_is_not_taken_by_a_captured_one():
    n = torch.tensor([3])
    with pytest.raises(SpecError, match="n: names an input of the call and a captured one; rename one"):
        Spec(mask=lambda b, kv: kv < n[b], score="score + n[h]")


def test_import_is_light():
    code = """
import sys, attngen.spec, attngen.mechanisms, attngen.weights, attngen.normalizers
print([m for m in ("torch", "triton", "sympy", "numpy") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
