"""What the machine code of a kernel gives away: good kernels pass, and every complaint is heard."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest

from attngen.codegen.backends.triton.ahead import Binary
from attngen.codegen.backends.triton.lint import Resources, complaints, lint
from attngen.codegen.devices import DEVICES, Device, built_for
from attngen.errors import BuildError
from tests.codegen.backends.triton.subjects import built, resources
from tests.kinds import some

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
RTX_4090 = next(d for d in DEVICES if d.name == "RTX 4090")
H100 = built_for("sm_90")


def only(found: Resources, device: Device) -> str:
    (told,) = complaints(found, device)
    return told


@pytest.mark.parametrize(("target", "products"), some([("sm_90", 16), ("sm_80", 128), ("sm_100", 8)], ("sm_80", 128)))
def test_a_good_kernel(target: str, products: int) -> None:
    found = resources(target=target)
    assert complaints(found, built_for(target)) == []
    assert (found.local_loads, found.local_stores) == (0, 0)
    assert (found.main_loops, found.dots_in_loop, found.groups_in_loop) == (1, 2, 2)
    assert found.products_in_loop == products
    assert 1 <= found.full_waits_in_loop <= 2
    assert 64 < found.registers <= 255
    assert (found.threads, found.shared) == (128, built(target=target).shared)
    assert found.serialized == ""


def test_deeper_pipelines_never_wait_for_all_copies() -> None:
    found = resources(target="sm_80", stages=3)
    assert (found.groups_in_loop, found.full_waits_in_loop) == (2, 0)


def test_loops_of_specialised_warps_are_told_apart_from_their_waiting_loops() -> None:
    found = resources("specialized", d=128)
    assert (found.main_loops, found.dots_in_loop, found.full_waits_in_loop) == (2, 4, 4)
    assert found.asked_specialized
    assert found.specialized
    assert found.threads == 384
    assert complaints(found, H100) == []


def test_specialisation_dropped_for_a_branch() -> None:
    found = resources("specialized", d=128, branch=True)
    assert found.threads == 128
    assert not found.specialized
    assert only(found, H100) == (
        "Warp specialisation was asked for and dropped in silence (no USETMAXREG), and a kernel tuned for it is slow "
        "without: write one loop without a branch and take 4 warps, or do not ask for it."
    )


def test_spills() -> None:
    found = resources(d=128)
    assert found.registers == 255
    assert only(found, H100) == (
        f"Registers spill: {found.local_stores} stores to local memory (STL) and {found.local_loads} loads (LDL), "
        f"with {found.stack} bytes of stack, and none are allowed: take smaller tiles or more warps."
    )


def test_serialised_products_are_waited_for_one_by_one() -> None:
    found = resources(keys=128)
    assert found.groups_in_loop == found.full_waits_in_loop == found.products_in_loop == 24
    serialized, waits = complaints(found, H100)
    assert serialized == (
        "The assembler runs the matrix products one after the other, due to insufficient register resources for the "
        "wgmma pipeline, and they have to overlap: take smaller tiles or more warps."
    )
    assert waits == (
        "The main loop has 24 full waits for 2 matrix products, and one for each is allowed: keep loads of single "
        "elements and branches out of the loop, or take smaller tiles."
    )


def test_too_much_shared_memory() -> None:
    found = resources(target="sm_80", warps=8, stages=4, d=128)
    assert complaints(found, built_for("sm_80")) == []
    assert only(found, RTX_4090) == (
        f"It takes {found.shared} bytes of shared memory and a block on RTX 4090 has 101376: "
        "take fewer stages or smaller tiles."
    )


def test_more_than_the_device_has() -> None:
    found = resources()
    assert only(replace(found, registers=168, threads=512), H100) == (
        "It takes 168 registers in each of 512 threads and H100 has 255 for a thread and 65536 for a block: "
        "take smaller tiles or fewer warps."
    )
    assert "in each of 128 threads" in only(replace(found, registers=256), H100)
    assert resources(target="sm_100").tensor_memory == 256
    assert "1024 columns of tensor memory and B200 has 512" in only(
        replace(resources(target="sm_100"), tensor_memory=1024), built_for("sm_100")
    )


def test_the_wrong_device() -> None:
    assert only(resources(), built_for("sm_80")) == "It was built for sm_90 and A100 runs sm_80: build it for sm_80."


def test_what_is_no_machine_code() -> None:
    with pytest.raises(BuildError, match="cuobjdump refused the kernel: "):
        lint(Binary("x", "sm_90", b"no cubin", "", "", 0, 4, {}))
