// AVX-512 on a machine without it: the intrinsics that simd_avx512.h and its users call, as loops over GCC vectors.
// For testing values, not speed:
//
//   g++ -mavx2 -mfma -mf16c -Itests/cpp -DATTNGEN_EMULATE_AVX512='"avx512_emulation.h"' [-DATTNGEN_EMULATE_BF16] ...
//
// A missing intrinsic is a compile error here; add it.
#pragma once
#include <stdint.h>
#include <string.h>
#if defined(__clang__)
#define __IMMINTRIN_H
#define __MM_MALLOC_H
#else
#define _IMMINTRIN_H_INCLUDED
#define _MM_MALLOC_H_INCLUDED
#endif
#include <nmmintrin.h>

#include <avxintrin.h>

#include <avx2intrin.h>
#include <f16cintrin.h>
#include <fmaintrin.h>

typedef float __m512 __attribute__((vector_size(64), may_alias));
typedef long long __m512i __attribute__((vector_size(64), may_alias));
typedef unsigned short __mmask16;
namespace emulated {
typedef int32_t v16i __attribute__((vector_size(64), may_alias));
typedef uint32_t v16u __attribute__((vector_size(64), may_alias));
typedef uint64_t v8u __attribute__((vector_size(64), may_alias));
template <class F>
static inline __m512 floats(F f) {
  __m512 x;
  for (int i = 0; i < 16; i++) x[i] = f(i);
  return x;
}
template <class F>
static inline __m512i integers(F f) {
  v16i x;
  for (int i = 0; i < 16; i++) x[i] = (int32_t)f(i);
  return (__m512i)x;
}
// A pick within each 128-bit lane: element f(i) of the lane, from b where f(i) >= 4.
template <class F>
static inline __m512 in_lanes(__m512 a, __m512 b, F f) {
  return floats([&](int i) {
    int s = f(i % 4);
    return s < 4 ? a[i / 4 * 4 + s] : b[i / 4 * 4 + s - 4];
  });
}
static inline float half(uint16_t x) { return _cvtsh_ss(x); }
static inline float bf16(uint16_t x) {
  uint32_t u = (uint32_t)x << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}
static inline uint16_t to_bf16(float x) {
  uint32_t u;
  memcpy(&u, &x, 4);
  return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? u >> 16 | 0x40 : (u + 0x7fff + (u >> 16 & 1)) >> 16);
}
}  // namespace emulated

#define EMULATED static inline __attribute__((unused))
EMULATED __m512 _mm512_set1_ps(float x) { return __m512{} + x; }
EMULATED __m512i _mm512_set1_epi32(int x) {
  return emulated::integers([&](int) { return x; });
}
EMULATED __m512 _mm512_loadu_ps(const void* p) {
  __m512 x;
  memcpy(&x, p, 64);
  return x;
}
EMULATED __m512i _mm512_loadu_si512(const void* p) {
  __m512i x;
  memcpy(&x, p, 64);
  return x;
}
EMULATED void _mm512_storeu_ps(void* p, __m512 x) { memcpy(p, &x, 64); }
EMULATED __m512 _mm512_maskz_loadu_ps(__mmask16 m, const float* p) {
  return emulated::floats([&](int i) { return m >> i & 1 ? p[i] : 0; });
}
EMULATED void _mm512_mask_storeu_ps(float* p, __mmask16 m, __m512 x) {
  for (int i = 0; i < 16; i++)
    if (m >> i & 1) p[i] = x[i];
}
EMULATED __mmask16 _mm512_movepi32_mask(__m512i a) {
  unsigned m = 0;
  for (int i = 0; i < 16; i++) m |= (unsigned)(((emulated::v16i)a)[i] < 0) << i;
  return (__mmask16)m;
}
EMULATED __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) {
  return emulated::floats([&](int i) { return __builtin_fmaf(a[i], b[i], c[i]); });
}
// The second operand where one is NaN, as the instructions have it.
EMULATED __m512 _mm512_max_ps(__m512 a, __m512 b) {
  return emulated::floats([&](int i) { return a[i] > b[i] ? a[i] : b[i]; });
}
EMULATED __m512 _mm512_min_ps(__m512 a, __m512 b) {
  return emulated::floats([&](int i) { return a[i] < b[i] ? a[i] : b[i]; });
}
EMULATED __m512 _mm512_sqrt_ps(__m512 a) {
  return emulated::floats([&](int i) { return __builtin_sqrtf(a[i]); });
}
// Rounding to whole numbers only (the upper half of the immediate is 0): 8 nearest even, 9 down, 10 up.
EMULATED __m512 _mm512_roundscale_ps(__m512 a, int mode) {
  return emulated::floats([&](int i) {
    return mode == 8 ? __builtin_rintf(a[i]) : mode == 9 ? __builtin_floorf(a[i]) : __builtin_ceilf(a[i]);
  });
}
// The smaller magnitude of two, and the number where one is NaN (the immediate is 2).
EMULATED __m512 _mm512_range_ps(__m512 a, __m512 b, int) {
  return emulated::floats([&](int i) { return __builtin_fabsf(a[i]) <= __builtin_fabsf(b[i]) ? a[i] : b[i]; });
}
// The table of the instruction: an infinite exponent decides even where `a` is NaN.
EMULATED __m512 _mm512_scalef_ps(__m512 a, __m512 b) {
  return emulated::floats([&](int i) {
    const float by = __builtin_floorf(b[i]);
    if (b[i] != b[i]) return (float)b[i];
    if (__builtin_isinf(by)) return by > 0 ? __builtin_inff() : 0.0f;  // for a > 0 or NaN
    return __builtin_ldexpf(a[i], by > 1000 ? 1000 : by < -1000 ? -1000 : (int)by);
  });
}
EMULATED __m512i _mm512_cvttps_epi32(__m512 a) {
  return emulated::integers([&](int i) { return a[i] > -0x1p31f && a[i] < 0x1p31f ? (int32_t)a[i] : INT32_MIN; });
}
EMULATED __m512 _mm512_cvtepi32_ps(__m512i a) {
  return emulated::floats([&](int i) { return (float)((emulated::v16i)a)[i]; });
}
EMULATED __m512i _mm512_cvtepu16_epi32(__m256i a) {
  uint16_t x[16];
  memcpy(x, &a, 32);
  return emulated::integers([&](int i) { return x[i]; });
}
EMULATED __m256i _mm512_cvtepi32_epi16(__m512i a) {
  uint16_t x[16];
  for (int i = 0; i < 16; i++) x[i] = (uint16_t)((emulated::v16i)a)[i];
  __m256i r;
  memcpy(&r, x, 32);
  return r;
}
EMULATED __m512 _mm512_cvtph_ps(__m256i a) {
  uint16_t x[16];
  memcpy(x, &a, 32);
  return emulated::floats([&](int i) { return emulated::half(x[i]); });
}
EMULATED __m256i _mm512_cvtps_ph(__m512 a, int) {
  uint16_t x[16];
  for (int i = 0; i < 16; i++) x[i] = _cvtss_sh(a[i], 0);
  __m256i r;
  memcpy(&r, x, 32);
  return r;
}
EMULATED float _mm512_reduce_max_ps(__m512 a) {
  for (int n = 8; n; n /= 2)
    for (int i = 0; i < n; i++) a[i] = a[i] > a[i + n] ? a[i] : a[i + n];
  return a[0];
}
EMULATED float _mm512_reduce_add_ps(__m512 a) {
  for (int n = 8; n; n /= 2)
    for (int i = 0; i < n; i++) a[i] += a[i + n];
  return a[0];
}
EMULATED __m512i _mm512_srli_epi32(__m512i a, int n) { return (__m512i)((emulated::v16u)a >> n); }
EMULATED __m512i _mm512_mul_epu32(__m512i a, __m512i b) {
  return (__m512i)(((emulated::v8u)a & 0xffffffffu) * ((emulated::v8u)b & 0xffffffffu));
}
EMULATED __m512 _mm512_permutexvar_ps(__m512i index, __m512 a) {
  return emulated::floats([&](int i) { return a[((emulated::v16i)index)[i] & 15]; });
}
EMULATED __m512 _mm512_unpacklo_ps(__m512 a, __m512 b) {
  return emulated::in_lanes(a, b, [](int i) { return i / 2 + i % 2 * 4; });
}
EMULATED __m512 _mm512_unpackhi_ps(__m512 a, __m512 b) {
  return emulated::in_lanes(a, b, [](int i) { return 2 + i / 2 + i % 2 * 4; });
}
EMULATED __m512 _mm512_shuffle_ps(__m512 a, __m512 b, int pick) {
  return emulated::in_lanes(a, b, [&](int i) { return (pick >> 2 * i & 3) + i / 2 * 4; });
}
EMULATED __m512 _mm512_shuffle_f32x4(__m512 a, __m512 b, int pick) {
  return emulated::floats([&](int i) { int from = (pick >> i / 4 * 2 & 3) * 4 + i % 4;
    return i < 8 ? a[from] : b[from]; });
}

#if defined(ATTNGEN_EMULATE_BF16)
typedef __m512i __m512bh;
typedef __m256i __m256bh;
// The odd product is added first. (The instruction also flushes subnormal numbers; this does not.)
EMULATED __m512 _mm512_dpbf16_ps(__m512 c, __m512i a, __m512i b) {
  uint16_t x[32], y[32];
  memcpy(x, &a, 64);
  memcpy(y, &b, 64);
  return emulated::floats([&](int i) {
    float odd = __builtin_fmaf(emulated::bf16(x[2 * i + 1]), emulated::bf16(y[2 * i + 1]), c[i]);
    return __builtin_fmaf(emulated::bf16(x[2 * i]), emulated::bf16(y[2 * i]), odd);
  });
}
EMULATED __m256i _mm512_cvtneps_pbh(__m512 a) {
  uint16_t x[16];
  for (int i = 0; i < 16; i++) x[i] = emulated::to_bf16(a[i]);
  __m256i r;
  memcpy(&r, x, 32);
  return r;
}
#endif
