"""What a bundle can be built for, and the nearest to what it cannot."""

from __future__ import annotations

import pytest

from attngen.aot import limits
from attngen.errors import InputError, UnsupportedError

THERE_TOO = "whose kernels run there too"
KNOWN = "allowed: sm_80, sm_89, sm_90, sm_100, sm_120"


def test_each_once_and_in_order() -> None:
    assert limits.checked_archs(["sm_100", " sm_90", "sm_90", ""]) == ("sm_90", "sm_100")
    assert limits.checked_dtypes(["fp32", "bf16", "fp32"]) == ("bf16", "fp32")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("sm_75", f"arch: got 'sm_75'; {limits.LIMIT}; the nearest is 'sm_80'"),
        ("sm_86", f"arch: got 'sm_86', which is not known; {KNOWN}; the nearest is 'sm_80', {THERE_TOO}"),
        ("sm_103", f"arch: got 'sm_103', which is not known; {KNOWN}; the nearest is 'sm_100'"),
        ("sm_121", f"arch: got 'sm_121', which is not known; {KNOWN}; the nearest is 'sm_120'"),
        ("sm90", f"arch: got 'sm90' (did you mean 'sm_90'?); {KNOWN}"),
        ("9.0", f"arch: got '9.0' (did you mean 'sm_90'?); {KNOWN}"),
        ("hopper", f"arch: got 'hopper'; {KNOWN}"),
        ("", "arch: got none; give one or more of sm_80, sm_89, sm_90, sm_100, sm_120"),
    ],
)
def test_architectures_that_cannot_be(given: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        limits.checked_archs([given])
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("fp64", "dtype: got 'fp64', which has no Triton kernel; allowed: bf16, fp16, fp32; the nearest is 'fp32'"),
        ("bf61", "dtype: got 'bf61'; allowed: bf16, fp16, fp32 (did you mean 'bf16'?)"),
    ],
)
def test_dtypes_that_cannot_be(given: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        limits.checked_dtypes([given])
    assert str(caught.value) == message


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError) as caught:
        limits.need_triton()
    assert str(caught.value) == (
        "Triton is not installed, and a bundle is built with it; pip install triton (loading a bundle needs none)"
    )
