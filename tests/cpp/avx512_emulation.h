// AVX-512 on a machine without it: SIMDe's portable versions of the intrinsics (Debian: libsimde-dev), and the few
// that it lacks. For testing values, not speed:
//
//   g++ -mavx2 -mfma -mf16c -DATTNGEN_EMULATE_AVX512='"avx512_emulation.h"' [-DATTNGEN_EMULATE_BF16] -Itests/cpp ...
#pragma once
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <stdint.h>
#include <string.h>

static inline __mmask16 emulated_movepi32_mask(__m512i a) {
  int32_t x[16];
  memcpy(x, &a, 64);
  unsigned mask = 0;
  for (int i = 0; i < 16; i++) mask |= (unsigned)(x[i] < 0) << i;
  return (__mmask16)mask;
}
#undef _mm512_movepi32_mask
#define _mm512_movepi32_mask emulated_movepi32_mask

template <class F> static inline __m512 emulated_lanes(__m512 a, __m512 b, F f) {
  float x[16], y[16];
  memcpy(x, &a, 64);
  memcpy(y, &b, 64);
  for (int i = 0; i < 16; i++) x[i] = f(x[i], y[i]);
  memcpy(&a, x, 64);
  return a;
}
static inline __m512i emulated_cvttps_epi32(__m512 a) {
  float x[16];
  int32_t y[16];
  memcpy(x, &a, 64);
  for (int i = 0; i < 16; i++) y[i] = x[i] > -0x1p31f && x[i] < 0x1p31f ? (int32_t)x[i] : INT32_MIN;
  __m512i r;
  memcpy(&r, y, 64);
  return r;
}
static inline __m512 emulated_cvtepi32_ps(__m512i a) {
  float x[16];
  int32_t y[16];
  memcpy(y, &a, 64);
  for (int i = 0; i < 16; i++) x[i] = (float)y[i];
  __m512 r;
  memcpy(&r, x, 64);
  return r;
}
static inline __m512i emulated_cvtepu16_epi32(__m256i a) {
  uint16_t x[16];
  uint32_t y[16];
  memcpy(x, &a, 32);
  for (int i = 0; i < 16; i++) y[i] = x[i];
  __m512i r;
  memcpy(&r, y, 64);
  return r;
}
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps emulated_cvtepi32_ps
#undef _mm512_cvtepu16_epi32
#define _mm512_cvtepu16_epi32 emulated_cvtepu16_epi32
#undef _mm512_cvttps_epi32
#define _mm512_cvttps_epi32 emulated_cvttps_epi32

// The second operand where one is NaN or both are zero, as the instruction has it.
#undef _mm512_max_ps
#undef _mm512_min_ps
#define _mm512_max_ps(a, b) emulated_lanes(a, b, [](float x, float y) { return x > y ? x : y; })
#define _mm512_min_ps(a, b) emulated_lanes(a, b, [](float x, float y) { return x < y ? x : y; })
#undef _mm512_scalef_ps
#define _mm512_scalef_ps(a, b) \
  emulated_lanes(a, b, [](float x, float y) { return y == y ? __builtin_ldexpf(x, (int)__builtin_floorf(y)) : y; })
// Only whole numbers are rounded to (the upper half of the immediate is 0): 8 nearest even, 9 down, 10 up.
#undef _mm512_roundscale_ps
#define _mm512_roundscale_ps(a, mode)                                                                               \
  emulated_lanes(a, a, [](float x, float) {                                                                         \
    return (mode) == 8 ? __builtin_rintf(x) : (mode) == 9 ? __builtin_floorf(x) : __builtin_ceilf(x);                \
  })
#undef _mm512_reduce_max_ps
#undef _mm512_reduce_add_ps
static inline float emulated_reduce_max(__m512 a) {
  float x[16];
  memcpy(x, &a, 64);
  for (int n = 8; n; n /= 2)
    for (int i = 0; i < n; i++) x[i] = x[i] > x[i + n] ? x[i] : x[i + n];
  return x[0];
}
static inline float emulated_reduce_add(__m512 a) {
  float x[16];
  memcpy(x, &a, 64);
  for (int n = 8; n; n /= 2)
    for (int i = 0; i < n; i++) x[i] += x[i + n];
  return x[0];
}
#define _mm512_reduce_max_ps emulated_reduce_max
#define _mm512_reduce_add_ps emulated_reduce_add

#if defined(ATTNGEN_EMULATE_BF16)
static inline float emulated_bf16(uint16_t x) {
  uint32_t u = (uint32_t)x << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}
// Subnormal inputs count as zero and results are flushed; the order is the odd product first, as documented.
static inline __m512 emulated_dpbf16(__m512 c, __m512i a, __m512i b) {
  float sum[16];
  uint16_t x[32], y[32];
  memcpy(sum, &c, 64);
  memcpy(x, &a, 64);
  memcpy(y, &b, 64);
  for (int i = 0; i < 16; i++) {
    sum[i] = __builtin_fmaf(emulated_bf16(x[2 * i + 1]), emulated_bf16(y[2 * i + 1]), sum[i]);
    sum[i] = __builtin_fmaf(emulated_bf16(x[2 * i]), emulated_bf16(y[2 * i]), sum[i]);
  }
  memcpy(&c, sum, 64);
  return c;
}
static inline __m256i emulated_cvtneps_pbh(__m512 a) {
  float x[16];
  uint16_t y[16];
  memcpy(x, &a, 64);
  for (int i = 0; i < 16; i++) {
    uint32_t u;
    memcpy(&u, &x[i], 4);
    y[i] = (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? u >> 16 | 0x40 : (u + 0x7fff + (u >> 16 & 1)) >> 16);
  }
  __m256i r;
  memcpy(&r, y, 32);
  return r;
}
#undef __m512bh
#undef __m256bh
#define __m512bh __m512i
#define __m256bh __m256i
#undef _mm512_dpbf16_ps
#define _mm512_dpbf16_ps emulated_dpbf16
#undef _mm512_cvtneps_pbh
#define _mm512_cvtneps_pbh emulated_cvtneps_pbh
#endif
