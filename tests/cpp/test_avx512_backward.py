"""The AVX-512 backward on any x86 machine: its intrinsics are emulated; the rows come from the native forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import attngen
from attngen.codegen.backend import Call
from attngen.codegen.backends.cpu.backend import BACKWARD
from attngen.codegen.backends.cpu.config import default_backward
from attngen.codegen.backends.cpu.emit_backward import emit_backward
from attngen.codegen.backends.cpu.launch_backward import prepare_backward
from tests.cpp.test_avx512 import SETS, SPECS, emulate, emulated
from tests.end_to_end.oracle import BOUND, error, operands
from tests.kinds import some

pytestmark = [pytest.mark.cxx, pytest.mark.isa("avx2")]
PAIRS: list[Any] = [(name, "avx512") for name in ("causal", "program", "vsum", "lssar", "stick-breaking")]
PAIRS += [("program", "avx512_bf16"), ("causal", "avx512-fp16")]
LATER = [("lssar", "avx512"), ("causal", "avx512"), ("causal", "avx512-fp16"), ("program", "avx512")]


@pytest.mark.parametrize(("name", "isa"), some(PAIRS, *LATER))
def test_the_emulated_backward_agrees_with_the_reference(name: str, isa: str, tmp_path: Path) -> None:
    emulate(name, isa)
    dtype = SETS[isa]
    kernel = attngen.compile(SPECS[name]())
    q, k, v = operands(n_q=130, n_k=201, d=24, dv=20, dtype=dtype)
    engine = kernel.engine()
    tensors, ints, floats = kernel._values({})
    out, _, rows = engine.forward(q, k, v, tensors, ints, floats, False, True)
    plan = engine.compiled(q, k, v, tensors, False, True).plan
    config = default_backward(isa.removesuffix("-fp16"), plan)
    source = emit_backward(plan, config, frozenset()).text
    function = emulated(source, isa == "avx512_bf16", tmp_path, BACKWARD)
    call = Call(2, 4, 130, 201, "bhnd", (q, k, v, *tensors))
    launch = prepare_backward(function, config, plan, call, frozenset())
    dout = torch.randn(out.shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    found = launch(dout, None, q, k, v, rows, tensors, (*ints, *floats))

    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    exact = torch.autograd.grad(kernel.reference(*leaves), leaves, dout.double())
    for one, other in zip(found, exact, strict=False):
        assert one is not None
        assert error(one, other) <= BOUND[dtype]
