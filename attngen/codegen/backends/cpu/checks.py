"""Checks of indexed tensors before a launch."""

from __future__ import annotations
