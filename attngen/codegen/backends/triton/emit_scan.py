"""Sums along the keys of a row in a backward: what was kept before each key, and the cotangents that later keys send.

The second kernel goes along the keys twice: as the forward did, leaving for every tile of keys what was kept before it,
and then back, leaving what comes from behind it. With both at hand the third kernel may take tiles in any order.
"""

from __future__ import annotations

from attngen.codegen.backends.triton.emit_pairs import Pairs
from attngen.codegen.backends.triton.text import before, within
from attngen.codegen.backends.triton.visits import Order
from attngen.codegen.printers.triton_values import Axes
from attngen.ir.expr import const


class Scan:
    """The scan over key set `keyset`, for its pairs."""

    def __init__(self, pairs: Pairs, keyset: int) -> None:
        scan = pairs.branch.scan
        assert scan is not None
        assert pairs.found.keep is not None
        self.pairs = pairs
        self.descends = scan.direction == "backward"
        self.keeps, self.shares = pairs.printer(), pairs.printer()
        self.keep = pairs.kept(self.keeps, pairs.found.keep)
        self.share = pairs.kept(self.shares, pairs.found.before or const(0.0))
        tile = "tile" if pairs.scope.by_keys else "start // BLOCK_N"
        at = f"((b * n_h + h) * ((most_keys + BLOCK_N - 1) // BLOCK_N) + {tile}) * n_q + q"
        self.before, self.after = (f"{n}_{pairs.index}_{keyset}_data + {at}" for n in ("before", "after"))
        self.axis = 0 if pairs.scope.by_keys else 1

    @property
    def order(self) -> Order:
        """The way of the forward."""
        return "backward" if self.descends else "forward"

    @property
    def back(self) -> Order:
        """The other way."""
        return "forward" if self.descends else "backward"

    def setup(self) -> list[str]:
        """Statements in front of the loops."""
        return before(self.keeps, self.shares)

    def there(self, sure: bool) -> list[str]:
        """Statements of a tile on the way of the forward."""
        return [
            *within(self.keeps),
            f"tl.store({self.before}, carried, mask=q_live)",
            f"carried = carried + tl.sum({self.keep(sure)}, 1)",
        ]

    def here(self, sure: bool) -> list[str]:
        """Statements that leave `before` and `dbefore` of a tile, on the way back or in any order."""
        spread = self.pairs.scope.layout.spread
        lines = [
            *within(self.keeps),
            f"kept = {self._live(self.keep(sure))}",
            f"before = tl.cumsum(kept, {self.axis}, reverse={self.descends}) - kept",
            f"before = before + {spread(f'load_numbers({self.before}, q_live)', Axes.ROW, Axes.PAIR)}",
            *within(self.shares),
            f"share = {self._live(self.share(sure))}",
            f"dbefore = tl.cumsum(share, {self.axis}, reverse={not self.descends}) - share",
        ]
        if self.pairs.scope.by_keys:
            behind = spread(f"load_numbers({self.after}, q_live)", Axes.ROW, Axes.PAIR)
            return [*lines, f"dbefore = dbefore + {behind}"]
        return [
            *lines,
            "dbefore = dbefore + behind[:, None]",
            f"tl.store({self.after}, behind, mask=q_live)",
            "behind = behind + tl.sum(share, 1)",
        ]

    def _live(self, text: str) -> str:
        """Beyond the last key the sums go on through keys that are not there, which no mask needs to hide elsewhere."""
        if not self.pairs.scope.by_keys:
            return text
        return f"tl.where({self.pairs.scope.layout.spread('key_live', Axes.KEY, Axes.PAIR)}, {text}, 0.0)"
