"""Lowering: what a backend has no loop for, written as what it has one for.

Packed sequences become one sequence with a mask; routers, feature maps, projections, decays and linear attention become
inputs that are made before the loop.
"""
