"""The configs that are shipped: real machine code for three architectures, looked at without a device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, normalizers, scores, weights
from attngen.codegen.backends.triton.abi import parameters
from attngen.codegen.backends.triton.ahead import Binary, build_ahead
from attngen.codegen.backends.triton.config import TritonConfig, default
from attngen.codegen.backends.triton.emit import emit
from attngen.codegen.backends.triton.lint import complaints, lint
from attngen.codegen.devices import built_for
from attngen.codegen.lower.lowered import lowered
from tests.codegen.plans import plan_of

IDS = torch.arange(9)
SPECS: dict[str, Callable[[], attngen.Spec]] = {
    # Mask classes: none, a prefix, an interval, several, a table, boxes of a grid.
    "full": attngen.Spec,
    "causal": lambda: attngen.Spec(mask=masks.causal()),
    "window": lambda: attngen.Spec(mask=masks.sliding_window(256)),
    "sinks": lambda: attngen.Spec(mask=(masks.sink(4) | masks.sliding_window(256)) & masks.causal()),
    "documents": lambda: attngen.Spec(mask=masks.document(IDS) & masks.causal()),
    "neighborhood": lambda: attngen.mechanisms.neighborhood((32, 32), (7, 7)),
    # Index classes: per head, relative, full pair.
    "alibi": lambda: attngen.Spec(mask=masks.causal(), score=scores.alibi(torch.ones(4))),
    "relative": lambda: attngen.Spec(score=scores.relative_bias(torch.ones(4, 9))),
    "soft_cap": lambda: attngen.Spec(mask=masks.causal(), score=scores.soft_cap(30.0)),
    # Normalizers and weights.
    "sigmoid": lambda: attngen.Spec(mask=masks.causal(), normalizer=normalizers.sigmoid()),
    "entmax": lambda: attngen.Spec(normalizer=normalizers.entmax(1.5)),
    "dropout": lambda: attngen.Spec(weight=weights.dropout(0.1, seed=3)),
    "dual_triangle": lambda: attngen.mechanisms.dual_triangle(),
}
ELEMENTS: dict[str, Any] = {"documents": {"ids": ("int64", 1)}}
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
# A build takes seconds: every spec is built for two architectures, the everyday ones for all three.
CASES = [
    (name, arch, 64 if (i + j) % 2 else 128)
    for i, name in enumerate(SPECS)
    for j, arch in enumerate(ARCHITECTURES)
    if i % 3 != j or name in ("full", "causal")
]


def built(
    folder: Path, name: str, arch: str, d: int, *, aligned: bool = True, dtype: str = "bf16", config: Any = None
) -> Binary:
    plan = lowered(plan_of(SPECS[name](), dtype=dtype, d=d, dv=d, **ELEMENTS.get(name, {})))
    chosen: TritonConfig = config or default(plan, int(arch[3:]) // 10)
    path, given = folder / "forward.py", parameters(plan)
    path.write_text(emit(plan, chosen).text)
    return build_ahead(
        path,
        "forward",
        given.signature,
        given.constants(aligned),
        given.divisible(aligned),
        arch,
        chosen.num_warps,
        chosen.num_stages,
    )


@pytest.mark.parametrize(("name", "arch", "d"), CASES, ids=lambda value: str(value))
def test_shipped_configs_pass_the_lint(tmp_path: Path, name: str, arch: str, d: int) -> None:
    found = lint(built(tmp_path, name, arch, d))
    assert complaints(found, built_for(arch)) == []
    assert found.dots_in_loop >= 2


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_unaligned_tensors(tmp_path: Path, arch: str) -> None:
    assert complaints(lint(built(tmp_path, "causal", arch, 64, aligned=False)), built_for(arch)) == []


def test_fp32_products_are_no_tf32(tmp_path: Path) -> None:
    binary = built(tmp_path, "causal", "sm_90", 64, dtype="fp32")
    assert complaints(lint(binary), built_for("sm_90")) == []
    # Three products of tf32 stand for one of fp32; a bare one would be "inputPrecision = tf32".
    assert binary.ttgir.count("ttng.warp_group_dot ") % 3 == 0
    exact = TritonConfig(32, 32, 8, 2, "ieee")
    assert "HGMMA" not in built(tmp_path, "causal", "sm_90", 64, dtype="fp32", config=exact).ptx.upper()


def test_single_elements_are_read_past_the_pipeline(tmp_path: Path) -> None:
    """Triton's own loads would go through shared memory and spill."""
    inline = lint(built(tmp_path, "relative", "sm_90", 128))
    loaded = lint(
        built(tmp_path, "relative", "sm_90", 128, config=TritonConfig(128, 64, 8, 2, "tf32x3", lookups="load"))
    )
    assert loaded.shared >= inline.shared + 32 * 1024
    assert loaded.local_stores > inline.local_stores == 0
