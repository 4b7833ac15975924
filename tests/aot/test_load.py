"""A kernel from a bundle: what it launches, and what it says to calls that the bundle was not built for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import attngen
from attngen import masks, normalizers
from attngen.codegen.bundle.manifest import digest
from attngen.errors import BundleError
from attngen.runtime.engine import engine
from tests.aot.calls import ALIBI, SLOPES, Q, loaded, named, refused
from tests.aot.conftest import Make


def test_a_call_launches_the_code_with_its_parameters(make: Make) -> None:
    directory = make(ALIBI)
    kernel, driver = loaded(directory, {"slopes": SLOPES})
    q, k, v = (torch.zeros(3, 2, n, 16, dtype=torch.bfloat16) for n in (200, 40, 40))
    out, lse = kernel(q, k, v, return_lse=True)
    (launch,) = driver.launched
    assert (launch.image, launch.symbol) == (b"sm_90 forward forward aligned", "forward")
    # 128 queries a block; 8 warps.
    assert (launch.grid, launch.threads, launch.shared, launch.allowed) == ((3 * 2 * 2, 1, 1), 256, 70000, 70000)
    values = named(directory, launch)
    addresses = {"q": q, "k": k, "v": v, "x3_slopes": SLOPES, "out": out, "lse": lse}
    assert [values[f"{name}_data"] for name in addresses] == [tensor.data_ptr() for tensor in addresses.values()]
    assert [values[name] for name in ("n_b", "n_h", "n_q", "x4_window")] == [3, 2, 200, 5]
    assert [values[f"q_stride{i}"] for i in range(3)] == [200 * 2 * 16, 200 * 16, 16]
    assert [values[f"k_size{i}"] for i in range(4)] == [3, 2, 40, 16]
    assert "q_stride3" not in values
    assert launch.values[-2:] == [0, 0]


def test_code_is_loaded_once(make: Make) -> None:
    kernel, driver = loaded(make(ALIBI), {"slopes": SLOPES})
    for n in (40, 41, 40):
        q = torch.zeros(1, 2, n, 16, dtype=torch.bfloat16)
        kernel(q, q, q)
    assert driver.loaded == [(b"sm_90 forward forward aligned", "forward", 70000)]
    assert len(driver.launched) == 3


def test_tensors_that_are_not_aligned_take_the_other_code(make: Make) -> None:
    directory = make(ALIBI)
    kernel, driver = loaded(directory, {"slopes": SLOPES})
    odd = torch.zeros(1, 2, 40, 17, dtype=torch.bfloat16)[..., 1:]
    kernel(odd, Q, Q)
    (launch,) = driver.launched
    assert launch.image == b"sm_90 forward forward generic"
    assert named(directory, launch)["q_data"] == odd.data_ptr()


def test_without_the_log_sum_exp_there_is_one_result(make: Make) -> None:
    kernel, _ = loaded(make(ALIBI), {"slopes": SLOPES})
    assert kernel(Q, Q, Q).shape == Q.shape
    sigmoid, _ = loaded(make(attngen.Spec(normalizer=normalizers.sigmoid()), "sigmoid"))
    assert sigmoid(Q, Q, Q).shape == Q.shape
    assert "has no log-sum-exp" in refused(lambda: sigmoid(Q, Q, Q, return_lse=True))


def test_inputs_come_with_the_bundle_or_the_call(make: Make) -> None:
    directory = make(ALIBI)
    kernel, driver = loaded(directory)
    assert "slopes: this spec needs it as a keyword argument" in refused(lambda: kernel(Q, Q, Q))
    kernel(Q, Q, Q, slopes=SLOPES, window=7)
    again, other = loaded(directory, {"window": 9, "slopes": SLOPES})
    again(Q, Q, Q)
    windows = [named(directory, d.launched[0])["x4_window"] for d in (driver, other)]
    assert windows == [7, 9]
    assert refused(lambda: loaded(directory, {"slope": SLOPES})) == (
        "inputs: got 'slope' (did you mean 'slopes'?); inputs of the bundle: window, slopes"
    )


def test_layouts(make: Make) -> None:
    directory = make(ALIBI, layout="bnhd")
    turned = Q.transpose(1, 2).contiguous()
    kernel, driver = loaded(directory, {"slopes": SLOPES})
    assert kernel(turned, turned, turned).shape == turned.shape
    kernel(Q, Q, Q, layout="bhnd")
    other, again = loaded(directory, {"slopes": SLOPES}, layout="bhnd")
    other(Q, Q, Q)
    values = [named(directory, launch) for launch in (*driver.launched, *again.launched)]
    assert [(each["n_h"], each["n_q"]) for each in values] == [(2, 40)] * 3
    assert [each["q_stride1"] for each in values] == [16, 40 * 16, 40 * 16]


def test_tables_of_masks_that_read_tensors(make: Make) -> None:
    ids = torch.arange(40) // 7
    kernel, driver = loaded(make(attngen.Spec(mask=masks.document(ids))), {"ids": ids})
    kernel(Q, Q, Q)
    assert len(driver.launched) == 1


def test_it_shows_its_source_and_itself(make: Make) -> None:
    directory = make(ALIBI, dtypes=["bf16", "fp16"], head_dims=[16, 32])
    kernel, _ = loaded(directory, {"slopes": SLOPES})
    assert kernel.source(Q, Q, Q) == (directory / "bf16-d16/sm_90/forward.py").read_text()
    assert repr(kernel) == (
        "<attngen.BundledKernel sliding_window_alibi: bf16 D 16, bf16 D 32, fp16 D 16, fp16 D 32; sm_90>"
    )


def test_the_newest_code_that_runs_there(make: Make) -> None:
    directory = make(ALIBI, archs=["sm_80", "sm_89", "sm_90"])
    for arch, code in (((8, 6), b"sm_80"), ((8, 9), b"sm_89"), ((9, 0), b"sm_90")):
        kernel, driver = loaded(directory, {"slopes": SLOPES}, arch=arch)
        kernel(Q, Q, Q)
        assert driver.launched[0].image.startswith(code)


# Refusals


def test_a_device_that_it_was_not_built_for(make: Make) -> None:
    directory = make(ALIBI, archs=["sm_80", "sm_90"])
    message = (
        f"{directory}: was built for sm_80, sm_90, and cpu is sm_100; build it for that: "
        "attngen aot SPEC --arch sm_80,sm_90,sm_100 --dtype bf16 --head-dim 16 -o DIR"
    )
    kernel, driver = loaded(directory, {"slopes": SLOPES}, arch=(10, 0))
    assert refused(lambda: kernel(Q, Q, Q)) == message
    assert refused(lambda: loaded(directory, arch=(10, 0), device="cpu")) == message
    assert driver.launched == []


def test_tensors_on_the_cpu(make: Make) -> None:
    kernel = attngen.load_bundle(make(ALIBI), {"slopes": SLOPES})
    assert refused(lambda: kernel(Q, Q, Q)) == (
        "q: is on cpu; this bundle holds kernels for sm_90: move q, k and v to such a GPU, or compile for this device "
        "with attngen.compile"
    )


def test_tensors_on_two_devices(make: Make) -> None:
    kernel, _ = loaded(make(ALIBI), {"slopes": SLOPES})
    assert refused(lambda: kernel(Q, Q.to("meta"), Q)) == "k: is on meta, but q is on cpu; move it there"


@pytest.mark.parametrize(
    ("dtype", "d", "message"),
    [
        (
            torch.float16,
            16,
            "q: got fp16; this bundle was built for bf16, fp32; the nearest is bf16. Build it: attngen aot SPEC --arch "
            "sm_90 --dtype bf16,fp32,fp16 --head-dim 16,64 -o DIR",
        ),
        (torch.float64, 16, "q: got fp64; this bundle was built for bf16, fp32; the nearest is fp32."),
        (
            torch.bfloat16,
            48,
            "q: got head dimension 48 in bf16; this bundle was built for bf16 D 16, bf16 D 64; the nearest is bf16 D "
            "64. Build it: attngen aot SPEC --arch sm_90 --dtype bf16,fp32 --head-dim 16,64,48 -o DIR",
        ),
    ],
)
def test_what_it_was_not_built_for(make: Make, dtype: torch.dtype, d: int, message: str) -> None:
    kernel, _ = loaded(make(ALIBI, dtypes=["fp32", "bf16"], head_dims=[16, 64]), {"slopes": SLOPES})
    q = torch.zeros(1, 2, 8, d, dtype=dtype)
    assert refused(lambda: kernel(q, q, q)).startswith(message)


def test_values_of_another_width(make: Make) -> None:
    kernel, _ = loaded(make(ALIBI), {"slopes": SLOPES})
    message = refused(lambda: kernel(Q, Q, torch.zeros(1, 2, 40, 32, dtype=Q.dtype)))
    assert message.startswith("q: got head dimensions 16 (q, k) and 32 (v) in bf16; this bundle was built for bf16 D")
    assert "--head-dim 16 --value-dim 32 -o DIR" in message


def test_an_input_of_another_dtype(make: Make) -> None:
    kernel, _ = loaded(make(ALIBI))
    assert refused(lambda: kernel(Q, Q, Q, slopes=SLOPES.bfloat16())) == (
        "slopes: got dtype bfloat16; this bundle was built for float32: convert it, or build for it: attngen aot SPEC "
        "--arch sm_90 --dtype bf16 --head-dim 16 -o DIR --input slopes=bfloat16"
    )


def test_programs_without_their_bundle() -> None:
    assert refused(lambda: engine(str(ALIBI), "bhnd::bundle-0123456789abcdef:")) == (
        "this program runs a kernel of a bundle; call attngen.load_bundle(directory) before"
    )


# Other versions


def changed(directory: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The bundle with another manifest, whose digest is right."""
    path = directory / "manifest.json"
    body = json.loads(path.read_text())
    del body["digest"]
    change(body)
    path.write_text(json.dumps(body | {"digest": digest(body)}))
    return directory


def test_another_version(make: Make) -> None:
    directory = changed(make(ALIBI), lambda body: body.update(attngen="0.0.9"))
    assert refused(lambda: attngen.load_bundle(directory)) == (
        f"{directory}: was built by attngen 0.0.9, and this is {attngen.__version__}; kernels and what launches them "
        "belong together: build it again: attngen aot SPEC -o DIR"
    )


@pytest.mark.parametrize("part", ["plan", "signature", "signature of the backward"])
def test_another_plan_under_the_same_version(make: Make, part: str) -> None:
    def change(body: dict[str, Any]) -> None:
        problem = body["problems"][0]
        if part == "plan":
            problem["plan"] += "\nmore"
        else:
            problem["kernels"][0 if part == "signature" else 3]["signature"].reverse()

    kernel, _ = loaded(changed(make(ALIBI), change), {"slopes": SLOPES})
    q = Q.clone().requires_grad_(part == "signature of the backward")
    assert "built it, from another plan than this version derives" in refused(lambda: kernel(q, Q, Q))


def test_an_architecture_without_its_kernel(make: Make) -> None:
    def change(body: dict[str, Any]) -> None:
        del body["problems"][1]["kernels"][0]

    directory = changed(make(ALIBI, head_dims=[16, 32]), change)
    kernel, _ = loaded(directory, {"slopes": SLOPES})
    kernel(Q, Q, Q)
    wide = torch.zeros(1, 2, 8, 32, dtype=Q.dtype)
    assert "has no forward kernel of bf16 D 32 for sm_90; build it again" in refused(lambda: kernel(wide, wide, wide))


def test_a_backward_without_one_of_its_kernels(make: Make) -> None:
    directory = changed(make(ALIBI), lambda body: body["problems"][0]["kernels"].pop())
    kernel, _ = loaded(directory, {"slopes": SLOPES})
    kernel(Q, Q, Q)
    message = refused(lambda: kernel(Q.clone().requires_grad_(), Q, Q))
    assert "has no keys kernel of bf16 D 16 for sm_90; build it again" in message


# No compiler

WITHOUT_TRITON = """
import sys
for name in ("triton", "jinja2", "rich", "typer"):
    sys.modules[name] = None  # importing it raises ImportError
import torch, attngen
from attngen.codegen.bundle.files import open_bundle
from pretend import Recorder, passed_of
driver = Recorder(passed_of(open_bundle(__import__("pathlib").Path(sys.argv[1]))))
kernel = attngen.load_bundle(sys.argv[1], {"slopes": torch.ones(2)}, driver=driver)
q = torch.zeros(1, 2, 40, 16, dtype=torch.bfloat16)
kernel(q.requires_grad_(), q, q).sum().backward()
print(len(driver.launched), "launched")
"""


def test_it_runs_where_neither_triton_nor_templates_can_be_loaded(make: Make) -> None:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parents[1]}{os.pathsep}{here}", "ATTNGEN_DISABLE_JIT": "1"}
    command = [sys.executable, "-c", WITHOUT_TRITON, str(make(ALIBI))]
    done = subprocess.run(command, cwd=here.parents[1], env=environment, capture_output=True, text=True)
    assert done.stdout == "4 launched\n", done.stderr


def test_a_bundle_is_missed_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is not a bundle: manifest.json cannot be read: No such file or directory"):
        attngen.load_bundle(tmp_path)
