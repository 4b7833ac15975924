"""Bundles: kernels built ahead of time, on disk, with all that is needed to launch them where nothing is compiled.

manifest.py    what a bundle says of itself
files.py       reading it, every file against its hash
publish.py     writing it, so that nobody ever sees half of one
packing.py     the parameters of a launch in memory
driver.py      NVIDIA's driver
"""
