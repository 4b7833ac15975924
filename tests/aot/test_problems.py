"""What kernels are built for, without tensors."""

from __future__ import annotations

import pytest
import torch

import attngen
from attngen import masks, normalizers, scores
from attngen.aot.problems import check_widths, has_lse, problem_of
from attngen.codegen.problem import Operand
from attngen.errors import InputError
from attngen.runtime.engine import Engine


def test_a_captured_tensor_decides_its_dtype() -> None:
    spec = attngen.Spec(mask=masks.causal(), score=scores.alibi(torch.ones(4, dtype=torch.bfloat16)))
    problem = problem_of(spec, "fp16", 64, 32, {})
    assert problem.operands == (
        Operand("q", "float16", 4, 64),
        Operand("k", "float16", 4, 64),
        Operand("v", "float16", 4, 32),
        Operand("slopes", "bfloat16", 1, 0),
    )
    assert problem.return_lse


def test_an_input_of_the_call_has_the_usual_dtype_or_the_one_that_is_named() -> None:
    spec = attngen.Spec(mask="kv < lengths[b]", score="score + bias[h, kv]")
    found = {o.name: o.dtype for o in problem_of(spec, "bf16", 64, 64, {}).operands}
    assert (found["lengths"], found["bias"]) == ("int64", "float32")
    found = {o.name: o.dtype for o in problem_of(spec, "bf16", 64, 64, {"lengths": "int32"}).operands}
    assert found["lengths"] == "int32"


def test_it_is_the_problem_of_a_call() -> None:
    spec = attngen.Spec(mask=masks.document(torch.arange(8)), score=scores.relative_bias(torch.ones(2, 15)))
    q = torch.zeros(1, 2, 8, 16, dtype=torch.bfloat16)
    inputs = [spec.bindings[i.name].fetch() for i in spec.ir.inputs if i.axes]
    assert problem_of(spec, "bf16", 16, 16, {}) == Engine(spec.ir, "bhnd", None).problem(q, q, q, inputs, True)


def test_no_normalizer_without_a_log_sum_exp_is_asked_for_one() -> None:
    assert has_lse(attngen.Spec().ir)
    assert not has_lse(attngen.Spec(normalizer=normalizers.sigmoid()).ir)
    assert not has_lse(attngen.mechanisms.differential(0.5).ir)


@pytest.mark.parametrize(
    ("d", "dv", "message"),
    [
        (0, 64, "head_dim: got 0; allowed: 1 to 256; the nearest is 1"),
        (64, -1, "value_dim: got -1; allowed: 1 to 256; the nearest is 1"),
        (257, 257, "head_dim: got 257; a Triton kernel holds vectors of at most 256 channels; the nearest is 256"),
        (64, 300, "value_dim: got 300; a Triton kernel holds vectors of at most 256 channels; the nearest is 256"),
    ],
)
def test_widths_that_cannot_be(d: int, dv: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_widths(attngen.Spec(), d, dv, {})
    assert str(caught.value) == message


def test_heads_that_are_cut_may_be_wider() -> None:
    spec = attngen.mechanisms.dual_triangle()
    check_widths(spec, 512, 512, {})
    with pytest.raises(InputError, match=r"head_dim: got 700; .* the nearest is 512$"):
        check_widths(spec, 700, 700, {})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"slope": "float32"}, "input: got 'slope' (did you mean 'slopes'?); tensors of this spec: slopes"),
        ({"slopes": "float23"}, "input: got 'float23' for slopes (did you mean 'float32'?); the spec reads"),
        ({"slopes": "int64"}, "input: got 'int64' for slopes"),
    ],
)
def test_inputs_that_do_not_fit(inputs: dict[str, str], message: str) -> None:
    spec = attngen.Spec(score=scores.alibi(torch.ones(4)))
    with pytest.raises(InputError) as caught:
        problem_of(spec, "bf16", 64, 64, inputs)
    assert str(caught.value).startswith(message)
