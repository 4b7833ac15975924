"""Which architectures, dtypes and head dimensions a bundle can be built for; whatever cannot work names the nearest
that does."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.util import find_spec

from attngen.codegen.devices import DEVICES
from attngen.errors import InputError, UnsupportedError
from attngen.suggest import nearest

ARCHS: tuple[str, ...] = tuple(
    sorted({device.arch for device in DEVICES}, key=lambda arch: int(arch.removeprefix("sm_")))
)
DTYPES = ("bf16", "fp16", "fp32")
OLDEST = 80
LIMIT = (
    f"Triton kernels need sm_{OLDEST} or newer: older architectures have no matrix products of bf16 and no copies that "
    "run beside the work"
)


def need_triton() -> None:
    """Raises `UnsupportedError` where there is no Triton."""
    if find_spec("triton") is None:
        raise UnsupportedError(
            "Triton is not installed, and a bundle is built with it; pip install triton (loading a bundle needs none)"
        )


def checked_archs(given: Iterable[str]) -> tuple[str, ...]:
    """The architectures, each once, in ascending order. Raises `InputError`."""
    return tuple(sorted({_arch(one) for one in _some("arch", given, ARCHS)}, key=ARCHS.index))


def checked_dtypes(given: Iterable[str]) -> tuple[str, ...]:
    """The dtypes, each once. Raises `InputError`."""
    found = _some("dtype", given, DTYPES)
    for one in found:
        if one == "fp64":
            raise InputError(
                f"dtype: got 'fp64', which has no Triton kernel; allowed: {', '.join(DTYPES)}; the nearest is 'fp32'"
            )
        if one not in DTYPES:
            raise InputError(f"dtype: got {one!r}; allowed: {', '.join(DTYPES)}{nearest(one, DTYPES)}")
    return tuple(sorted(set(found), key=DTYPES.index))


def _some(name: str, given: Iterable[str], allowed: tuple[str, ...]) -> list[str]:
    found = [one.strip() for one in given if one.strip()]
    if not found:
        raise InputError(f"{name}: got none; give one or more of {', '.join(allowed)}")
    return found


def _arch(given: str) -> str:
    if given in ARCHS:
        return given
    known = re.fullmatch(r"sm_(\d{2,3})", given)
    if known is None:
        meant = "sm_" + "".join(re.findall(r"\d", given))
        hint = f" (did you mean {meant!r}?)" if meant in ARCHS else nearest(given, ARCHS)
        raise InputError(f"arch: got {given!r}{hint}; allowed: {', '.join(ARCHS)}")
    number = int(known[1])
    if number < OLDEST:
        raise InputError(f"arch: got {given!r}; {LIMIT}; the nearest is {ARCHS[0]!r}")
    near, why = _nearest_arch(number)
    raise InputError(
        f"arch: got {given!r}, which is not known; allowed: {', '.join(ARCHS)}; the nearest is {near!r}{why}"
    )


def _nearest_arch(number: int) -> tuple[str, str]:
    numbers = [int(arch.removeprefix("sm_")) for arch in ARCHS]
    # Up to sm_89, machine code runs on every later minor version of its major one.
    before = [n for n in numbers if n // 10 == number // 10 == 8 and n <= number]
    if before:
        return f"sm_{max(before)}", ", whose kernels run there too"
    return f"sm_{min(numbers, key=lambda n: (abs(n - number), n))}", ""
