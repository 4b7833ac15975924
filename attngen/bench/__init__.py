"""A kernel beside other libraries on the same tensors, in turn."""

from __future__ import annotations

from attngen.bench.peers import PEERS, Refused, peer
from attngen.bench.race import Result, race

__all__ = ["PEERS", "Refused", "Result", "peer", "race"]
