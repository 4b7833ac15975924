"""Lowering: index spaces that a backend has no loop for, written as one that it has."""
