"""Block tables for masks that read tensors: built per call from the values at hand, kept while those stay the same."""

from __future__ import annotations
