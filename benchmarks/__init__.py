"""Benchmark programs: contenders alternate in one process; results carry the peak of the machine in that run."""
