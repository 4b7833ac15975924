"""What the Triton backend says to what it cannot do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import attngen
from attngen.codegen.backends import for_device
from attngen.codegen.backends.triton.support import refusal
from attngen.errors import InputError, UnsupportedError
from tests.codegen.plans import plan_of

pytest.importorskip("triton")


def test_tensors_on_the_cpu_need_the_interpreter() -> None:
    q = torch.ones(1, 1, 4, 16)
    with pytest.raises(UnsupportedError, match="set TRITON_INTERPRET=1 before Triton is imported"):
        attngen.compile(attngen.Spec(), backend="triton")(q, q, q)


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ({"dtype": "fp64"}, "float64 has no Triton kernel"),
        ({"d": 257}, "vectors of 257 channels are wider than the 256"),
        ({"dv": 512}, "vectors of 512 channels"),
    ],
)
def test_reasons(problem: dict[str, object], reason: str) -> None:
    found = refusal(plan_of(attngen.Spec(), **problem), "cuda")
    assert found is not None
    assert reason in found


def test_integers_that_differ_between_queries_have_32_bits() -> None:
    program = """
import torch, attngen
kernel = attngen.compile(attngen.Spec(mask=lambda q, kv: (q + 2**40) // 2**39 >= kv), backend="triton")
q = torch.ones(1, 1, 4, 16)
try:
    kernel(q, q, q)
except attngen.errors.UnsupportedError as problem:
    print("q + 1099511627776 can reach" in str(problem), "32-bit integers" in str(problem))
"""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == "True True\n", done.stderr


def test_devices() -> None:
    assert [backend.name for backend in for_device("cuda")] == ["triton", "reference"]
    assert [backend.name for backend in for_device("cpu")] == ["cpu", "reference"]
    with pytest.raises(InputError, match="'cpu' does not run on device 'cuda'; allowed there: triton, reference"):
        for_device("cuda", "cpu")
