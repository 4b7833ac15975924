"""A space: the configs that a plan may be built with, in an order that says nothing, and those that were left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple


class Pruned(NamedTuple):
    """A config that is not tried, and why, as a sentence."""

    config: Any
    reason: str


@dataclass(frozen=True, slots=True)
class Space:
    """`own` is what is built where nothing was measured; it is the first of `configs`, each of which is legal."""

    own: Any
    configs: tuple[Any, ...]
    pruned: tuple[Pruned, ...]

    @classmethod
    def of(cls, own: Any, around: Iterable[Any], refusal: Callable[[Any], str | None]) -> Space:
        """The space of a config and of what may be around it, each once."""
        legal, pruned = [own], []
        for config in dict.fromkeys(around):
            if config == own:
                continue
            reason = refusal(config)
            if reason is None:
                legal.append(config)
            else:
                pruned.append(Pruned(config, reason))
        return cls(own, tuple(legal), tuple(pruned))

    def choices(self) -> tuple[tuple[str, ...], ...]:
        """The values of each part of a config's text that has several, in order: what a search varies."""
        parts = [parts_of(config) for config in self.configs]
        columns = [tuple(dict.fromkeys(column)) for column in zip(*parts, strict=True)]
        return tuple(column for column in columns if len(column) > 1)

    def by_choices(self) -> dict[tuple[str, ...], Any]:
        """The configs by their values of `choices`."""
        parts = {config: parts_of(config) for config in self.configs}
        columns = list(zip(*parts.values(), strict=True))
        varying = [i for i, column in enumerate(columns) if len(set(column)) > 1]
        return {tuple(each[i] for i in varying): config for config, each in parts.items()}


FIXED = 8
"""Words of a config that every config of its kind has; what follows is one part."""


def parts_of(config: Any) -> tuple[str, ...]:
    """A config's text in parts, as many for every config of a space."""
    found: list[str] = []
    for half in str(config).split("; "):
        words = half.split(" ")
        found += [*words[:FIXED], *[""] * (FIXED - len(words)), " ".join(words[FIXED:])]
    return tuple(found)
