"""What a plan may be built with: the texts of configs, what is left out and why, what every member promises."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import attngen
from attngen.autotune.spaces import Space, parse, refusal, space_of
from attngen.codegen.backends.cpu import config as cpu
from attngen.codegen.backends.triton import config as triton
from attngen.codegen.devices import built_for
from attngen.codegen.plan import Plan
from attngen.errors import InputError
from attngen.masks import causal, neighborhood
from tests.codegen.plans import plan_of

GRID = attngen.Spec(mask=neighborhood((16, 24), 7))


def backend(name: str, isa: str = "avx2") -> Any:
    """Only what a space asks of one: the library's own configs."""
    if name == "cpu":
        makers = (lambda plan: cpu.default(isa, plan), lambda plan: cpu.default_backward(isa, plan))
    else:
        makers = (triton.default, triton.default_backward)
    return SimpleNamespace(name=name, configs=lambda p: (makers[0](p),), configs_backward=lambda p: (makers[1](p),))


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", ["cpu", "triton"])
@pytest.mark.parametrize("spec", [attngen.Spec(mask=causal()), GRID], ids=["sequence", "grid"])
def test_every_config_is_legal_once_and_comes_back_from_its_text(spec: Any, name: str, backward: bool) -> None:
    plan = plan_of(spec, dtype="bf16")
    space = space_of(plan, backend(name), backward, built_for("sm_90") if name == "triton" else None)
    assert len(space.configs) > 20
    assert space.configs[0] == space.own
    texts = [str(config) for config in space.configs]
    assert len(set(texts)) == len(texts)
    for config in space.configs[::7]:
        assert parse(name, backward, str(config)) == config
        assert refusal(plan, name, config, backward) is None
    assert space.pruned or name == "triton"
    assert all(refusal(plan, name, one.config, backward, built_for("sm_90")) == one.reason for one in space.pruned)
    choices, columns = space.by_choices(), space.choices()
    assert set(choices.values()) == set(space.configs)
    assert all(value in column for key in choices for value, column in zip(key, columns, strict=True))


def test_limits_are_those_of_the_device() -> None:
    plan = plan_of(attngen.Spec(), dtype="bf16", d=128, dv=128)
    ampere, hopper, ada = (space_of(plan, backend("triton"), device=built_for(a)) for a in ("sm_80", "sm_90", "sm_89"))
    assert any(config.loads == "descriptor" for config in hopper.configs)
    assert not any(config.loads == "descriptor" or config.specialize for config in ampere.configs)
    assert "A100 has no engine for descriptors: they begin with sm_90" in {one.reason for one in ampere.pruned}
    shared = {str(one.config): one.reason for one in ada.pruned if "shared memory" in one.reason}
    own = str(triton.TritonConfig(64, 128, 4, 3, "tf32x3"))
    assert shared[own].startswith("3 stages take 196608 bytes of shared memory and a block on RTX 4090 has 101376")


def bad(**changes: Any) -> str | None:
    from dataclasses import replace

    plan = plan_of(attngen.Spec(), dtype="fp32")
    return refusal(plan, "cpu", replace(cpu.default("avx2", plan), **changes))


def test_why_a_cpu_config_is_left_out() -> None:
    assert bad() is None
    assert bad(key_tile=72) == "a key tile of 72 is no whole number of panels of 16 keys"
    assert bad(score_rows=8, score_vectors=4, key_tile=192) == "a score tile of 8x4 takes 37 registers and there are 16"
    assert bad(group=0) == "every size is at least 1"
    assert str(bad(group=4096)).startswith("a group takes ")
    assert "cannot be boxes" in str(bad(box=(4, 6)))
    assert bad(isa="sse") == "fp32 kernels are not built for sse"


def test_a_scan_hands_over_tiles_of_keys_of_one_size() -> None:
    plan: Plan = plan_of(attngen.Spec(normalizer="stick_breaking"), dtype="bf16")
    space = space_of(plan, backend("triton"), True)
    assert {config.queries.block_n for config in space.configs} == {config.keys.block_n for config in space.configs}


@pytest.mark.parametrize(
    ("name", "backward", "text"),
    [("cpu", False, "avx2 q24 k192"), ("triton", False, "m128 n64 w8 s2 bf8 inline split pointer"),
     ("triton", True, "m128 n64 w8 s2 tf32 inline split pointer"),
     ("triton", False, "m64 n64 w8 s2 tf32 inline split pointer box_m4x4")],
)  # fmt: skip
def test_a_text_that_is_no_config_is_refused(name: str, backward: bool, text: str) -> None:
    with pytest.raises(InputError, match=r"config: got|box_m: got"):
        parse(name, backward, text)


def test_a_space_of_one() -> None:
    space = Space("dense", ("dense",), ())
    assert space.choices() == ()
    assert space.by_choices() == {(): "dense"}
