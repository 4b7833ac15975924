// Vectors of 16 floats: AVX-512 F, BW, DQ, VL (Skylake server, Zen 4 and later); with ATTNGEN_BF16_DOT also the bf16
// dot product (Cooper Lake, Zen 4). Same names as simd_avx2.h.
#pragma once
#include "intrinsics.h"
#include "types.h"

namespace attngen {

typedef float real;
typedef int32_t integer;
constexpr int W = 16;
typedef float vf __attribute__((vector_size(64), may_alias));
typedef int32_t vi __attribute__((vector_size(64), may_alias));
typedef vi vb;

ATTNGEN_INLINE vf splat(float x) { return vf(_mm512_set1_ps(x)); }
ATTNGEN_INLINE vi splat(int32_t x) { return vi(_mm512_set1_epi32(x)); }
ATTNGEN_INLINE vb lanes(bool x) { return vb(_mm512_set1_epi32(-(int)x)); }
ATTNGEN_INLINE vi iota() { return vi{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }
ATTNGEN_INLINE vb first_lanes(long n) { return iota() < splat((int32_t)n); }
ATTNGEN_INLINE __mmask16 mask_of(vb m) { return _mm512_movepi32_mask(__m512i(m)); }

ATTNGEN_INLINE vf load(const float* p) { return vf(_mm512_loadu_ps(p)); }
ATTNGEN_INLINE void store(float* p, vf x) { _mm512_storeu_ps(p, __m512(x)); }
ATTNGEN_INLINE vf load_first(const float* p, long n) { return vf(_mm512_maskz_loadu_ps(mask_of(first_lanes(n)), p)); }
ATTNGEN_INLINE void store_first(float* p, vf x, long n) {
  _mm512_mask_storeu_ps(p, mask_of(first_lanes(n)), __m512(x));
}

ATTNGEN_INLINE vi bits(vf x) { return (vi)x; }
ATTNGEN_INLINE vf from_bits(vi x) { return (vf)x; }
// Of numbers as well: what is summed up outside vectors rounds as they do, whatever the compiler contracts.
ATTNGEN_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
ATTNGEN_INLINE vf fma(vf a, vf b, vf c) { return vf(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c))); }
// The machine's maximum and minimum: the second operand where either one is NaN.
ATTNGEN_INLINE vf raw_max(vf a, vf b) { return vf(_mm512_max_ps(__m512(a), __m512(b))); }
ATTNGEN_INLINE vf raw_min(vf a, vf b) { return vf(_mm512_min_ps(__m512(a), __m512(b))); }
ATTNGEN_INLINE vf select(vb m, vf a, vf b) { return m ? a : b; }
ATTNGEN_INLINE vi select(vb m, vi a, vi b) { return m ? a : b; }
ATTNGEN_INLINE bool any(vb m) { return mask_of(m) != 0; }
ATTNGEN_INLINE bool all(vb m) { return mask_of(m) == 0xffff; }
ATTNGEN_INLINE vf sqrt(vf x) { return vf(_mm512_sqrt_ps(__m512(x))); }
ATTNGEN_INLINE vf round(vf x) { return vf(_mm512_roundscale_ps(__m512(x), 8)); }
ATTNGEN_INLINE vf floor(vf x) { return vf(_mm512_roundscale_ps(__m512(x), 9)); }
ATTNGEN_INLINE vf ceil(vf x) { return vf(_mm512_roundscale_ps(__m512(x), 10)); }
ATTNGEN_INLINE vi to_int(vf x) { return vi(_mm512_cvttps_epi32(__m512(x))); }  // towards zero
ATTNGEN_INLINE vf to_real(vi x) { return vf(_mm512_cvtepi32_ps(__m512i(x))); }

ATTNGEN_INLINE float lane0(vf x) { return x[0]; }
ATTNGEN_INLINE float reduce_max(vf x) { return _mm512_reduce_max_ps(__m512(x)); }
ATTNGEN_INLINE float reduce_add(vf x) { return _mm512_reduce_add_ps(__m512(x)); }
// Lane i becomes lane i - N; the first N lanes become 0.
template <int N>
ATTNGEN_INLINE vf shift_lanes(vf x) {
  const vi from = iota() - N;
  return select(vb(from < 0), vf{}, vf(_mm512_permutexvar_ps(__m512i(from), __m512(x))));
}
ATTNGEN_INLINE vf reverse(vf x) { return vf(_mm512_permutexvar_ps(__m512i(15 - iota()), __m512(x))); }

// W consecutive elements of any storage type.
ATTNGEN_INLINE vi load_halves(const void* p) {
  return vi(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)));
}
ATTNGEN_INLINE vf load(const bf16* p) { return from_bits(load_halves(p) << 16); }
ATTNGEN_INLINE vf load(const f16* p) { return vf(_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p))); }
ATTNGEN_INLINE void store(f16* p, vf x) {
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(__m512(x), _MM_FROUND_TO_NEAREST_INT));
}
#if defined(ATTNGEN_BF16_DOT)
ATTNGEN_INLINE void store(bf16* p, vf x) {
  __m256bh y = _mm512_cvtneps_pbh(__m512(x));
  __builtin_memcpy(p, &y, 32);
}
// Words are pairs of bf16: c + a.first * b.first + a.second * b.second, summed in float.
ATTNGEN_INLINE vf dot_pairs(vf c, vi a, vi b) { return vf(_mm512_dpbf16_ps(__m512(c), (__m512bh)a, (__m512bh)b)); }
#else
ATTNGEN_INLINE void store(bf16* p, vf x) {
  vi u = bits(x), rounded = u + 0x7fff + ((u >> 16) & 1);
  u = select(vb(x == x), rounded, u | 0x400000);
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(__m512i(u), 16)));
}
#endif

// Lanes of 64 bits; the product of their low halves as unsigned numbers.
typedef uint64_t vl __attribute__((vector_size(64), may_alias));
ATTNGEN_INLINE vl multiply_low_halves(vl a, vl b) { return vl(_mm512_mul_epu32(__m512i(a), __m512i(b))); }

// Rows become columns: 4 x 4 blocks within 128-bit lanes, then the lanes.
ATTNGEN_INLINE void transpose(vf (&r)[W]) {
  __m512 t[16], u[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(__m512(r[i]), __m512(r[i + 1]));
    t[i + 1] = _mm512_unpackhi_ps(__m512(r[i]), __m512(r[i + 1]));
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 4) {
    u[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 4; i++) {
    __m512 a = _mm512_shuffle_f32x4(u[i], u[i + 4], 0x88), b = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0x88);
    __m512 c = _mm512_shuffle_f32x4(u[i], u[i + 4], 0xdd), d = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0xdd);
    r[i] = vf(_mm512_shuffle_f32x4(a, b, 0x88));
    r[i + 8] = vf(_mm512_shuffle_f32x4(a, b, 0xdd));
    r[i + 4] = vf(_mm512_shuffle_f32x4(c, d, 0x88));
    r[i + 12] = vf(_mm512_shuffle_f32x4(c, d, 0xdd));
  }
}

// 2^x and e^x, relative error 2e-7, exactly 1 at 0; NaN stays NaN. Scaling rounds to subnormal numbers, 0 and infinity
// by itself, and where the exponent is infinite it does not look at the rest, which may be NaN.
ATTNGEN_INLINE vf exp2(vf x) {
  vf f = x - floor(x);
  vf p = fma(f, splat(0x1.e974fcp-10f), splat(0x1.277854p-7f));
  p = fma(p, f, splat(0x1.c91ce6p-5f));
  p = fma(p, f, splat(0x1.ebdb56p-3f));
  p = fma(p, f, splat(0x1.62e4bap-1f));
  p = fma(p, f, splat(1.0f));
  return vf(_mm512_scalef_ps(__m512(p), __m512(x)));  // scales by 2^floor(x)
}
ATTNGEN_INLINE vf exp2_nonpositive(vf x) { return exp2(x); }
ATTNGEN_INLINE vf exp(vf x) {
  constexpr float HIGH = 1.44269504f, LOW = 1.92596299e-8f;  // log2(e)
  vf n = round(x * HIGH);
  vf f = fma(x, splat(LOW), fma(x, splat(HIGH), -n));
  f = vf(_mm512_range_ps(__m512(f), _mm512_set1_ps(1.0f), 2));  // the smaller magnitude: anything, where n is huge
  vf p = fma(f, splat(0x1.5bba14p-10f), splat(0x1.3cea88p-7f));
  p = fma(p, f, splat(0x1.c6b752p-5f));
  p = fma(p, f, splat(0x1.ebf9bcp-3f));
  p = fma(p, f, splat(0x1.62e42ap-1f));
  p = fma(p, f, splat(1.0f));
  return vf(_mm512_scalef_ps(__m512(p), __m512(n)));
}
#define ATTNGEN_HAS_EXP 1

}  // namespace attngen
