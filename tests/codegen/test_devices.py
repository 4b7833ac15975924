"""The table of GPUs, and the least time that a kernel can take on one."""

from __future__ import annotations

import pytest

from attngen.codegen.devices import DEVICES, Device, built_for, named, predict
from attngen.errors import InputError

H100, A100, B200 = built_for("sm_90"), built_for("sm_80"), built_for("sm_100")


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.name)
def test_rates_are_what_the_units_give(device: Device) -> None:
    fma = device.sms * 128 * 2 * device.clock_ghz / 1000
    # An A100 has 64 fp32 units in an SM.
    fma /= 2 if device.capability == (8, 0) else 1
    assert device.fp32_tflops == pytest.approx(fma, rel=0.1)
    per_clock = {"A100": 2048, "H100": 4096, "H200": 4096, "B200": 8192, "RTX 4090": 512, "RTX 5090": 512}
    tensor = device.sms * per_clock[device.name] * device.clock_ghz / 1000
    assert device.bf16_tflops == pytest.approx(tensor, rel=0.02)
    assert device.shared_per_sm - device.shared_per_block == 1024


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 5090", "RTX 5090"),
        ("NVIDIA A100-SXM4-40GB", None),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("Tesla V100-SXM2-16GB", None),
    ],
)
def test_the_name_of_a_device(name: str, expected: str | None) -> None:
    found = named(name)
    assert (found and found.name) == expected


def test_an_architecture_has_a_device() -> None:
    assert {device.arch for device in DEVICES} == {"sm_80", "sm_89", "sm_90", "sm_100", "sm_120"}
    assert all(built_for(device.arch).arch == device.arch for device in DEVICES)
    with pytest.raises(InputError, match=r"arch: 'sm_75'; allowed: sm_80, sm_90, sm_100, sm_89, sm_120"):
        built_for("sm_75")


def test_which_code_runs_where() -> None:
    runs = {arch: [d.name for d in DEVICES if d.runs(arch)] for arch in ("sm_80", "sm_89", "sm_90a", "sm_100")}
    assert runs == {
        "sm_80": ["A100", "RTX 4090"],
        "sm_89": ["RTX 4090"],
        "sm_90a": ["H100", "H200"],
        "sm_100": ["B200"],
    }
    with pytest.raises(InputError, match="arch: 'hopper'; allowed: sm_"):
        H100.runs("hopper")


def test_dense_forward_on_hopper() -> None:
    pairs = 4 * 16 * 8192.0**2
    moved = 4 * 4 * 16 * 8192 * 128 * 2.0
    wide = predict(H100, pairs=pairs, d=128, dv=128, moved=moved)
    assert wide.bound == "matrix"
    assert wide.seconds == wide.parts["matrix"] == pytest.approx(pairs * 512 / 989.4e12)
    assert wide.parts["exp"] == pytest.approx(wide.seconds / 2, rel=0.01)
    # At 64 channels exponentials take as long as products, and a tanh in the score makes them the bound.
    narrow = predict(H100, pairs=pairs, d=64, dv=64, moved=moved)
    assert narrow.parts["exp"] == pytest.approx(narrow.parts["matrix"], rel=0.01)
    assert predict(H100, pairs=pairs, d=64, dv=64, moved=moved, exps=2).bound == "exp"
    # An exponential written out in the score.
    assert predict(H100, pairs=pairs, d=64, dv=64, moved=moved, fmas=40).bound == "fma"


def test_decoding_waits_for_memory() -> None:
    keys = 32 * 8 * 4096.0
    found = predict(H100, pairs=4 * keys, d=128, dv=128, moved=2 * keys * 128 * 2)
    assert found.bound == "memory"
    assert found.seconds == pytest.approx(2 * keys * 128 * 2 / 3352e9)


def test_backward_and_other_types() -> None:
    forward = predict(A100, pairs=1e9, d=64, dv=128, moved=0)
    assert forward.seconds == pytest.approx(2e9 * 192 / 312e12)
    backward = predict(A100, pairs=1e9, d=64, dv=128, moved=0, products=(3, 2))
    assert backward.seconds == pytest.approx(2e9 * (3 * 64 + 2 * 128) / 312e12)
    exact = predict(A100, pairs=1e9, d=64, dv=128, moved=0, element_bytes=4)
    assert exact.parts["matrix"] == pytest.approx(6 * forward.parts["matrix"])
    with pytest.raises(InputError, match="element_bytes: 8; allowed: 1, 2, 4"):
        predict(A100, pairs=1, d=64, dv=64, moved=0, element_bytes=8)


def test_exponentials_are_the_bound_on_blackwell() -> None:
    assert predict(B200, pairs=1e9, d=64, dv=64, moved=0).bound == "exp"
