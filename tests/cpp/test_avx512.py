"""AVX-512 kernels on any x86 machine: built as they are, and run with their intrinsics emulated."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, normalizers, scores, weights
from attngen.codegen.backend import Call
from attngen.codegen.backends.cpu import compiler
from attngen.codegen.backends.cpu.backend import FORWARD
from attngen.codegen.backends.cpu.config import default
from attngen.codegen.backends.cpu.emit import emit
from attngen.codegen.backends.cpu.isa import available as isas
from attngen.codegen.backends.cpu.launch import prepare
from attngen.codegen.backends.cpu.openmp import share_torch_runtime
from attngen.codegen.plan import make_plan
from tests.end_to_end.oracle import BOUND, LSE_BOUND, error, operands, random
from tests.kinds import some

pytestmark = [pytest.mark.cxx, pytest.mark.isa("avx2")]
HERE = Path(__file__).parent
EMULATED = (
    "-std=c++17",
    "-Og",
    "-fPIC",
    "-shared",
    "-w",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-mavx2",
    "-mfma",
    "-mf16c",
)

SPECS: dict[str, Callable[[], attngen.Spec]] = {
    "causal": lambda: attngen.Spec(mask=masks.causal()),
    # Functions, comparisons and remainders, lookups along the keys, random numbers, no anchor.
    "program": lambda: attngen.Spec(
        mask=masks.Mask.of(lambda q, kv: (kv <= q) & ((q - kv) % 3 != 1)),
        score=scores.relative_bias(random(4, 2 * 260 - 1))
        >> (lambda score, q, kv: torch.tanh(score) * 2 + torch.log1p(torch.abs(q - kv) * 1.0) - torch.sigmoid(score)),
        normalizer=normalizers.sigmoid(-1.0),
        weight=weights.dropout(0.5, seed=9),
    ),
    "vsum": lambda: attngen.Spec(mask=masks.sliding_window(150), normalizer=normalizers.affine(0.5, 0.01)),
    "lssar": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.lssar(3, 0.5)),
    "entmax": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.entmax(1.2)),
    "stick-breaking": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.stick_breaking()),
}
SETS = {"avx512": torch.float32, "avx512-fp16": torch.float16, "avx512_bf16": torch.bfloat16}


def emulated(source: str, bf16: bool, directory: Path, entry: str = FORWARD) -> Any:
    found = compiler.find()
    assert isinstance(found, compiler.Compiler)
    (directory / "kernel.cpp").write_text(source, encoding="utf-8")
    flags = [
        *EMULATED,
        f"-I{HERE}",
        '-DATTNGEN_EMULATE_AVX512="avx512_emulation.h"',
        *["-DATTNGEN_EMULATE_BF16"] * bf16,
    ]
    command = [*found.command, *flags, str(directory / "kernel.cpp"), "-o", str(directory / "kernel.so")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
    share_torch_runtime()
    library = ctypes.CDLL(str(directory / "kernel.so"))
    return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)((entry, library))


def emulate(name: str, isa: str) -> None:
    """Skips where the processor runs these instructions itself: there the tests of end_to_end compare values. One spec
    goes through the emulation everywhere."""
    if isa.partition("-")[0] in isas() and name != "causal":
        pytest.skip(f"this processor has {isa} itself")


PAIRS: list[Any] = [
    *((name, "avx512") for name in ("causal", "program", "vsum", "stick-breaking", "entmax")),
    *((name, "avx512_bf16") for name in ("causal", "program", "vsum", "entmax")),
    ("program", "avx512-fp16"),
]
LATER = [("entmax", "avx512"), ("program", "avx512-fp16"), ("vsum", "avx512_bf16"), ("entmax", "avx512_bf16")]
LATER += [("causal", "avx512"), ("program", "avx512")]
"""A sum of a pass before has no instructions of its own; the backward goes through one."""


@pytest.mark.parametrize(("name", "isa"), some(PAIRS, *LATER))
def test_values(name: str, isa: str, tmp_path: Path) -> None:
    emulate(name, isa)
    kernel, dtype = attngen.compile(SPECS[name]()), SETS[isa]
    lse = kernel.spec.ir.branches[0].normalizer.name in ("softmax", "affine")
    tensors, ints, floats = kernel._values({})
    function = None
    for b, n_q, n_k in [(2, 260, 260), (1, 70, 33)]:
        q, k, v = operands(b=b, n_q=n_q, n_k=n_k, d=40, dv=23, dtype=dtype)
        problem = kernel.engine().problem(q, k, v, tensors, lse)
        plan = make_plan(kernel.spec.ir, problem)
        config = default(isa.partition("-")[0], plan)
        if function is None:
            function = emulated(emit(plan, config).text, isa == "avx512_bf16", tmp_path)
        call = Call(b, 4, n_q, n_k, "bhnd", (q, k, v, *tensors))
        out, row, _ = prepare(function, config, plan, call)(q, k, v, tensors, (*ints, *floats))
        exact = kernel.reference(q, k, v, return_lse=lse)
        if lse:
            assert error(row, exact[1]) <= LSE_BOUND[dtype]
        assert error(out, exact[0] if lse else exact) <= BOUND[dtype]


@pytest.mark.parametrize("isa", ["avx512", "avx512_bf16"])
def test_few_queries(isa: str, tmp_path: Path) -> None:
    emulate("few queries", isa)
    kernel, dtype = attngen.compile(attngen.Spec(mask=masks.causal(align="bottom_right"))), SETS[isa]
    function = None
    for n_q, n_k in [(1, 1300), (3, 1300), (4, 17), (30, 1300)]:
        q, k, v = operands(b=1, hk=1, n_q=n_q, n_k=n_k, d=64, dv=40, dtype=dtype)
        problem = kernel.engine().problem(q, k, v, [], True)
        plan = make_plan(kernel.spec.ir, problem)
        config = default(isa.partition("-")[0], plan)
        if function is None:
            function = emulated(emit(plan, config).text, isa == "avx512_bf16", tmp_path)
        out, row, _ = prepare(function, config, plan, Call(1, 4, n_q, n_k, "bhnd", (q, k, v)))(q, k, v, [], ())
        exact = kernel.reference(q, k, v, return_lse=True)
        assert error(row, exact[1]) <= LSE_BOUND[dtype]
        assert error(out, exact[0]) <= BOUND[dtype]


@pytest.mark.parametrize(("isa", "dtype"), [("avx512", torch.float32), ("avx512_bf16", torch.bfloat16)])
def test_sources_are_accepted_by_the_compiler(isa: str, dtype: torch.dtype, tmp_path: Path) -> None:
    kernel = attngen.compile(SPECS["program"]())
    tensors, _, _ = kernel._values({})
    problem = kernel.engine().problem(*operands(d=64, dtype=dtype), tensors, False)
    plan = make_plan(kernel.spec.ir, problem)
    source = emit(plan, default(isa, plan)).text
    assert compiler.compile_shared(source, isa, tmp_path).is_file()


@pytest.mark.isa("avx512")
def test_values_on_the_processor_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.end_to_end.oracle import check

    for isa in ("avx512", "avx512_bf16"):
        if isa in isas():
            monkeypatch.setenv("ATTNGEN_ISA", isa)
            # tests/end_to_end/test_instruction_sets.py has the others.
            for name in ("program", "vsum"):
                check(SPECS[name](), *operands(n_q=260, d=40, dv=23, dtype=torch.bfloat16))
