"""Derivations: what follows from a declaration (the rescaling of a running state, gradients)."""
