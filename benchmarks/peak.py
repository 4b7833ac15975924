"""The rate of fused multiply-adds that the cores reach right now: what a share of peak is a share of."""

from __future__ import annotations

import ctypes
import tempfile
import time
from pathlib import Path

from attngen.codegen.backends.cpu import compiler, isa, library

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
static void fp32(int64_t steps) {
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
}
static const double FP32 = 2.0 * WIDTH * 12;
#if defined(__AVX512BF16__)
static void bf16(int64_t steps) {
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
}
static const double BF16 = 4.0 * 16 * 12;
#else
static void bf16(int64_t steps) { fp32(steps); }
static const double BF16 = FP32;
#endif
// On torch's own OpenMP threads: others would compete with those, which spin for a while after each parallel region.
extern "C" void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned) __attribute__((weak));
static int64_t steps_;
static void fp32_task(void*) { fp32(steps_); }
static void bf16_task(void*) { bf16(steps_); }
extern "C" __attribute__((visibility("default"))) double run(int64_t pairs, int64_t steps, int64_t threads) {
  steps_ = steps;
  void (*task)(void*) = pairs ? bf16_task : fp32_task;
  if (threads > 1 && GOMP_parallel) GOMP_parallel(task, nullptr, (unsigned)threads, 0);
  else task(nullptr), threads = 1;
  return (pairs ? BF16 : FP32) * steps * threads;
}
"""


class Peak:
    """Measures FLOP/s of all threads together; bf16 is the dot-product rate where the machine has one.

    `best` holds the highest rates so far. It starts with runs so short that some find a busy machine idle: what a
    machine with company all the time could do does not pass for its peak.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.isa = isa.choose()
        self._folder = tempfile.TemporaryDirectory()
        path = compiler.compile_shared(LOOP, self.isa, Path(self._folder.name))
        argtypes = (ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
        self._run = library.load(path, "run", argtypes, ctypes.c_double)
        self.best = {"fp32": 0.0, "bf16": 0.0}
        for dtype in self.best:
            for _ in range(300):
                self.measure(dtype, 200_000)

    def measure(self, dtype: str, steps: int = 4_000_000) -> float:
        """FLOP/s, over a run of some ten milliseconds on every thread."""
        start = time.perf_counter()
        flops: float = self._run(dtype == "bf16", steps, self.threads)
        rate = flops / (time.perf_counter() - start)
        self.best[dtype] = max(self.best[dtype], rate)
        return rate
