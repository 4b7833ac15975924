"""Every instruction set of this machine, forced: the same specs, the same bounds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import attngen
from attngen import masks, normalizers, scores, weights
from attngen.codegen.backends.cpu.isa import choose
from attngen.errors import InputError
from tests.end_to_end.oracle import check, operands, random
from tests.kinds import some

pytestmark = pytest.mark.cxx
N = 150

SPECS: dict[str, Callable[[], attngen.Spec]] = {
    "causal": lambda: attngen.Spec(mask=masks.causal()),
    # Functions, comparisons and remainders, lookups along the keys, random numbers.
    "program": lambda: attngen.Spec(
        mask=masks.Mask.of(lambda q, kv: (kv <= q) & ((q - kv) % 3 != 1)),
        score=scores.relative_bias(random(4, 2 * N - 1))
        >> (lambda score, q, kv: torch.tanh(score) * 2 + torch.log1p(torch.abs(q - kv) * 1.0)),
        normalizer=normalizers.softmax1(),
        weight=weights.dropout(0.5, seed=9),
    ),
    "vsum": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.affine(0.5, 0.01)),
    "lssar": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.lssar(3, 0.5)),
    "entmax": lambda: attngen.Spec(mask=masks.sliding_window(60), normalizer=normalizers.entmax(1.2)),
    "stick_breaking": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.stick_breaking()),
}
ISAS = [pytest.param(isa, marks=pytest.mark.isa(isa)) for isa in ("portable", "avx2", "avx512", "avx512_bf16")]
"""The set that this machine takes by itself is left out in `test_values`: all other tests run it."""
KINDS = [("causal", torch.bfloat16), ("causal", torch.float16)]
CASES = [*((name, torch.float32) for name in SPECS), *KINDS]


LATER = [("vsum", torch.float32), ("stick_breaking", torch.float32), ("causal", torch.float16)]
IDS = [f"{n}-{str(t).removeprefix('torch.')}" for n, t in CASES]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("name", "dtype"), some(CASES, *LATER), ids=IDS)
def test_values(name: str, dtype: torch.dtype, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if isa == choose() and name != "causal":
        pytest.skip(f"{isa} is what all other tests run here")
    monkeypatch.setenv("ATTNGEN_ISA", isa)
    # The reference text is the same, so a name keeps the kernels of the sets apart in this process.
    kernel = attngen.compile(attngen.Spec.from_ir(SPECS[name]().ir, SPECS[name]().bindings).named(f"{name}_{isa}"))
    assert f", {isa} " in kernel.source(*operands(n_q=N, d=40, dv=23, dtype=dtype)).splitlines()[0]
    check(kernel, *operands(n_q=N, d=40, dv=23, dtype=dtype))


@pytest.mark.parametrize("isa", ISAS)
def test_few_queries(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if isa == choose():
        pytest.skip(f"{isa} is what all other tests run here")
    monkeypatch.setenv("ATTNGEN_ISA", isa)
    kernel = attngen.compile(attngen.Spec(mask=masks.causal(align="bottom_right"), name=f"few_{isa}"))
    for n_q, n_k in ((1, 1300), (4, 90)):
        for dtype in (torch.float32, torch.bfloat16):
            check(kernel, *operands(n_q=n_q, n_k=n_k, d=64, dv=20, dtype=dtype), lse=True)


def test_a_set_that_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from attngen.codegen.backends.cpu import isa

    monkeypatch.setenv("ATTNGEN_ISA", "avx512_bf16")
    monkeypatch.setattr(isa, "processor", lambda: ("an old one", frozenset()))
    with pytest.raises(InputError, match="ATTNGEN_ISA=avx512_bf16: this machine has no avx512_bf16; it has portable"):
        attngen.compile(attngen.Spec(name="never_built"))(*operands())
