"""Expressions to target text: one module per language."""
