"""Calls: the checks of a call, the torch operator, and the engine that finds or builds the kernel."""
