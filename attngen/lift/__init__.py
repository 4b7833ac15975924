"""Lifting: the attention inside of a plain PyTorch function becomes a Spec, and the function runs its kernel.

torch's own tracer (Dynamo) records the function, with its guards, dynamic lengths, modules and closures. The graph is
read from the values of an attention back to its scores, element by element: between the two contractions everything is
an expression over b, h, q and kv. What is not understood stays PyTorch, with the line that stood in the way.
"""

from __future__ import annotations

from attngen.lift.lifted import Lifted, lift

__all__ = ["Lifted", "lift"]
