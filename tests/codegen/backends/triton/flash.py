"""Hand-written kernels that are built ahead of time: good ones, and ones that go wrong in a known way.

Never imported by a test: Triton reads this file itself.
"""

import triton
import triton.language as tl


@triton.jit
def flash(q_ptr, k_ptr, v_ptr, out_ptr, n, scale, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = tl.arange(0, D)
    base = tl.program_id(1).to(tl.int64) * n * D
    q = tl.load(q_ptr + base + rows[:, None] * D + dims[None, :], rows[:, None] < n, 0.0)
    acc = tl.zeros((BLOCK_M, D), tl.float32)
    m = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    mass = tl.zeros((BLOCK_M,), tl.float32)
    for first in range(0, n, BLOCK_N):
        keys = first + tl.arange(0, BLOCK_N)
        k = tl.load(k_ptr + base + keys[None, :] * D + dims[:, None], keys[None, :] < n, 0.0)
        s = tl.where(keys[None, :] < n, tl.dot(q, k) * scale, float("-inf"))
        new = tl.maximum(m, tl.max(s, 1))
        p = tl.exp2(s - new[:, None])
        fade = tl.exp2(m - new)
        mass = mass * fade + tl.sum(p, 1)
        v = tl.load(v_ptr + base + keys[:, None] * D + dims[None, :], keys[:, None] < n, 0.0)
        acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None])
        m = new
    out = (acc / mass[:, None]).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + base + rows[:, None] * D + dims[None, :], out, rows[:, None] < n)


@triton.jit
def specialized(
    q_ptr, k_ptr, v_ptr, out_ptr, n, scale,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BRANCH: tl.constexpr,
):  # fmt: skip
    start = tl.program_id(0) * BLOCK_M
    base = tl.program_id(1).to(tl.int64) * n * D
    queries = tl.make_tensor_descriptor(q_ptr + base, [n, D], [D, 1], [BLOCK_M, D])
    all_keys = tl.make_tensor_descriptor(k_ptr + base, [n, D], [D, 1], [BLOCK_N, D])
    values = tl.make_tensor_descriptor(v_ptr + base, [n, D], [D, 1], [BLOCK_N, D])
    outs = tl.make_tensor_descriptor(out_ptr + base, [n, D], [D, 1], [BLOCK_M, D])
    q = queries.load([start, 0])
    acc = tl.zeros((BLOCK_M, D), tl.float32)
    m = tl.full((BLOCK_M,), -1e30, tl.float32)
    mass = tl.zeros((BLOCK_M,), tl.float32)
    for first in tl.range(0, n, BLOCK_N, warp_specialize=True):
        s = tl.dot(q, all_keys.load([first, 0]).T) * scale
        if BRANCH:  # noqa: SIM102 - only a literal condition is decided when the kernel is built
            if first + BLOCK_N > n:
                s = tl.where((first + tl.arange(0, BLOCK_N))[None, :] < n, s, -1e30)
        new = tl.maximum(m, tl.max(s, 1))
        p = tl.exp2(s - new[:, None])
        fade = tl.exp2(m - new)
        mass = mass * fade + tl.sum(p, 1)
        v = values.load([first, 0])
        acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None])
        m = new
    outs.store([start, 0], (acc / mass[:, None]).to(out_ptr.dtype.element_ty))


@triton.jit
def two_specialized(q_ptr, k_ptr, n):
    queries = tl.make_tensor_descriptor(q_ptr, [n, 64], [64, 1], [128, 64])
    keys = tl.make_tensor_descriptor(k_ptr, [n, 64], [64, 1], [64, 64])
    q = queries.load([0, 0])
    acc = tl.zeros((128, 64), tl.float32)
    for first in tl.range(0, n, 64, warp_specialize=True):
        k = keys.load([first, 0])
        acc = tl.dot(tl.dot(q, k.T).to(tl.bfloat16), k, acc)
    for first in tl.range(0, n, 64, warp_specialize=True):
        k = keys.load([first, 0])
        acc = tl.dot((tl.dot(q, k.T) + 1).to(tl.bfloat16), k, acc)
    queries.store([0, 0], acc.to(tl.bfloat16))


@triton.jit
def shifted(x):
    return x + missing  # noqa: F821


@triton.jit
def unknown_name(x_ptr):
    i = tl.arange(0, 64)
    tl.store(x_ptr + i, shifted(i))


@triton.jit
def unlike_shapes(x_ptr):
    wide = tl.arange(0, 64)[:, None] + tl.arange(0, 32)[:, None]
    tl.store(x_ptr + wide, wide)


@triton.jit
def bogus_assembly(x_ptr):
    i = tl.arange(0, 64)
    y = tl.inline_asm_elementwise("bogus.op $0, $1;", "=r,r", [i], dtype=tl.int32, is_pure=True, pack=1)
    tl.store(x_ptr + i, y)
