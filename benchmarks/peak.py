"""The rate of fused multiply-adds that the cores reach right now: what a share of peak is a share of."""

from __future__ import annotations

import ctypes
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from attngen.codegen.backends.cpu import compiler, isa

LOOP = """
#include <stdint.h>
#if defined(__AVX512F__)
#include <immintrin.h>
typedef __m512 vec;
#define WIDTH 16
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#elif defined(__AVX2__)
#include <immintrin.h>
typedef __m256 vec;
#define WIDTH 8
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#else
typedef float vec __attribute__((vector_size(16)));
#define WIDTH 4
#define FMA(a, b, c) ((a) * (b) + (c))
#endif
// 12 independent chains hide the latency of two pipes; returns FLOP.
extern "C" __attribute__((visibility("default"))) double fp32(int64_t steps) {
  vec x[12], a = {}, b = {};
  for (int i = 0; i < 12; i++) x[i] = vec{} + (float)i;
  a = a + 0.999f, b = b + 0.001f;
  for (int64_t s = 0; s < steps; s++) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) x[i] = FMA(x[i], a, b);
  }
  for (int i = 1; i < 12; i++) x[0] = x[0] + x[i];
  volatile float sink = x[0][0];
  (void)sink;
  return 2.0 * WIDTH * 12 * steps;
}
#if defined(__AVX512BF16__)
extern "C" __attribute__((visibility("default"))) double bf16(int64_t steps) {
  __m512 x[12];
  __m512bh a = (__m512bh)_mm512_set1_epi32(0x3f803f80), b = a;
  for (int i = 0; i < 12; i++) x[i] = _mm512_set1_ps((float)i);
  for (int64_t s = 0; s < steps; s++) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) x[i] = _mm512_dpbf16_ps(x[i], a, b);
  }
  for (int i = 1; i < 12; i++) x[0] = _mm512_add_ps(x[0], x[i]);
  volatile float sink = x[0][0];
  (void)sink;
  return 4.0 * 16 * 12 * steps;
}
#else
extern "C" __attribute__((visibility("default"))) double bf16(int64_t steps) { return fp32(steps); }
#endif
"""


class Peak:
    """Measures FLOP/s of all threads together; bf16 is the dot-product rate where the machine has one."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.isa = isa.choose()
        self._folder = tempfile.TemporaryDirectory()
        library = ctypes.CDLL(str(compiler.compile_shared(LOOP, self.isa, Path(self._folder.name))))
        self._loops: dict[str, Callable[[int], float]] = {}
        for name in ("fp32", "bf16"):
            loop = getattr(library, name)
            loop.restype, loop.argtypes = ctypes.c_double, [ctypes.c_int64]
            self._loops[name] = loop

    def measure(self, dtype: str, steps: int = 3_000_000) -> float:
        """FLOP/s, over a run of some ten milliseconds on every thread."""
        import time

        loop = self._loops["bf16" if dtype == "bf16" else "fp32"]
        done = [0.0] * self.threads
        gate = threading.Barrier(self.threads + 1)

        def run(i: int) -> None:
            gate.wait()
            done[i] = loop(steps)

        workers = [threading.Thread(target=run, args=(i,)) for i in range(self.threads)]
        for worker in workers:
            worker.start()
        gate.wait()
        start = time.perf_counter()
        for worker in workers:
            worker.join()
        return sum(done) / (time.perf_counter() - start)
