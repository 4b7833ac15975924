"""The sizes of a call, as `--shape` writes them."""

from __future__ import annotations

from dataclasses import dataclass

from attngen.errors import InputError

FORM = "B,Hq,Hkv,Nq,Nk,D[,Dv]"
NAMES = ("B", "Hq", "Hkv", "Nq", "Nk", "D", "Dv")


@dataclass(frozen=True, slots=True)
class Shape:
    """q (b, hq, nq, d), k (b, hkv, nk, d), v (b, hkv, nk, dv)."""

    b: int
    hq: int
    hkv: int
    nq: int
    nk: int
    d: int
    dv: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Reads `B,Hq,Hkv,Nq,Nk,D[,Dv]`; Dv is D where it is left out. Raises `InputError` naming the number."""
        parts = [part.strip() for part in text.split(",")]
        if len(parts) not in (6, 7):
            raise InputError(f"--shape: got {len(parts)} numbers in {text!r}; allowed: {FORM}")
        numbers = []
        for name, part in zip(NAMES, parts, strict=False):
            if not part.isdecimal() or int(part) < 1:
                raise InputError(f"--shape: got {name}={part!r}; allowed: an integer >= 1, in {FORM}")
            numbers.append(int(part))
        return cls(*numbers, *(numbers[5:] if len(numbers) == 6 else ()))

    def __str__(self) -> str:
        numbers = (self.b, self.hq, self.hkv, self.nq, self.nk, self.d)
        return ",".join(map(str, numbers if self.d == self.dv else (*numbers, self.dv)))
