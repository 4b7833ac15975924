"""Builds the kernels of flash.py, each once for all tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from attngen.codegen.backends.triton.ahead import Binary, build_ahead
from attngen.codegen.backends.triton.lint import Resources, lint

FILE = Path(__file__).with_name("flash.py")
POINTERS = ("q_ptr", "k_ptr", "v_ptr", "out_ptr")
SIGNATURE = dict.fromkeys(POINTERS, "*bf16") | {"n": "i32", "scale": "fp32"}


@cache
def built(
    entry: str = "flash",
    *,
    target: str = "sm_90",
    warps: int = 4,
    stages: int = 2,
    d: int = 64,
    keys: int = 64,
    branch: bool = False,
    divisible: tuple[str, ...] = (*POINTERS, "n"),
) -> Binary:
    """A kernel of bf16, for 128 queries and `keys` keys at a time."""
    constants: dict[str, int | bool] = {"D": d, "BLOCK_M": 128, "BLOCK_N": keys}
    constants |= {"BRANCH": branch} if entry == "specialized" else {}
    return build_ahead(FILE, entry, SIGNATURE, constants, divisible, target, warps, stages)


@cache
def resources(binary: str = "flash", **choices: Any) -> Resources:
    """What a kernel takes; the choices are those of `built`."""
    return lint(built(binary, **choices))
