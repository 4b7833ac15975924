// Vectors of 8 floats: AVX2 with FMA and F16C (Haswell, Zen and later).
//
// vf, vi and vb are GCC vectors: + - * / < == & | ~ work on them as on scalars. A mask vb is an integer vector of
// 0 and -1. Named functions exist only for what the operators cannot say.
#pragma once
#include "intrinsics.h"
#include "types.h"

namespace attngen {

typedef float real;
typedef int32_t integer;
constexpr int W = 8;
typedef float vf __attribute__((vector_size(32), may_alias));
typedef int32_t vi __attribute__((vector_size(32), may_alias));
typedef vi vb;

ATTNGEN_INLINE vf splat(float x) { return vf(_mm256_set1_ps(x)); }
ATTNGEN_INLINE vi splat(int32_t x) { return vi(_mm256_set1_epi32(x)); }
ATTNGEN_INLINE vb lanes(bool x) { return vb(_mm256_set1_epi32(-(int)x)); }
ATTNGEN_INLINE vi iota() { return vi{0, 1, 2, 3, 4, 5, 6, 7}; }
ATTNGEN_INLINE vb first_lanes(long n) { return iota() < splat((int32_t)n); }

ATTNGEN_INLINE vf load(const float* p) { return vf(_mm256_loadu_ps(p)); }
ATTNGEN_INLINE void store(float* p, vf x) { _mm256_storeu_ps(p, __m256(x)); }
ATTNGEN_INLINE vf load_first(const float* p, long n) { return vf(_mm256_maskload_ps(p, __m256i(first_lanes(n)))); }
ATTNGEN_INLINE void store_first(float* p, vf x, long n) { _mm256_maskstore_ps(p, __m256i(first_lanes(n)), __m256(x)); }

ATTNGEN_INLINE vi bits(vf x) { return (vi)x; }
ATTNGEN_INLINE vf from_bits(vi x) { return (vf)x; }
// Of numbers as well: what is summed up outside vectors rounds as they do, whatever the compiler contracts.
ATTNGEN_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
ATTNGEN_INLINE vf fma(vf a, vf b, vf c) { return vf(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c))); }
// The machine's maximum and minimum: the second operand where either one is NaN.
ATTNGEN_INLINE vf raw_max(vf a, vf b) { return vf(_mm256_max_ps(__m256(a), __m256(b))); }
ATTNGEN_INLINE vf raw_min(vf a, vf b) { return vf(_mm256_min_ps(__m256(a), __m256(b))); }
ATTNGEN_INLINE vf select(vb m, vf a, vf b) { return vf(_mm256_blendv_ps(__m256(b), __m256(a), __m256(m))); }
ATTNGEN_INLINE vi select(vb m, vi a, vi b) { return (m & a) | (~m & b); }
ATTNGEN_INLINE bool any(vb m) { return _mm256_movemask_ps(__m256(m)) != 0; }
ATTNGEN_INLINE bool all(vb m) { return _mm256_movemask_ps(__m256(m)) == 255; }
ATTNGEN_INLINE vf sqrt(vf x) { return vf(_mm256_sqrt_ps(__m256(x))); }
ATTNGEN_INLINE vf round(vf x) { return vf(_mm256_round_ps(__m256(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }
ATTNGEN_INLINE vf floor(vf x) { return vf(_mm256_floor_ps(__m256(x))); }
ATTNGEN_INLINE vf ceil(vf x) { return vf(_mm256_ceil_ps(__m256(x))); }
ATTNGEN_INLINE vi to_int(vf x) { return vi(_mm256_cvttps_epi32(__m256(x))); }  // towards zero
ATTNGEN_INLINE vf to_real(vi x) { return vf(_mm256_cvtepi32_ps(__m256i(x))); }

ATTNGEN_INLINE float lane0(vf x) { return x[0]; }
ATTNGEN_INLINE float reduce_max(vf x) {
  __m128 y = _mm_max_ps(_mm256_castps256_ps128(__m256(x)), _mm256_extractf128_ps(__m256(x), 1));
  y = _mm_max_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_max_ss(y, _mm_shuffle_ps(y, y, 1)));
}
ATTNGEN_INLINE float reduce_add(vf x) {
  __m128 y = _mm_add_ps(_mm256_castps256_ps128(__m256(x)), _mm256_extractf128_ps(__m256(x), 1));
  y = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
}
// Lane i becomes lane i - N; the first N lanes become 0.
template <int N>
ATTNGEN_INLINE vf shift_lanes(vf x) {
  const vi from = iota() - N;
  return select(vb(from < 0), vf{}, vf(_mm256_permutevar8x32_ps(__m256(x), __m256i(from))));
}
ATTNGEN_INLINE vf reverse(vf x) {
  return vf(_mm256_permutevar8x32_ps(__m256(x), _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0)));
}

// W consecutive elements of any storage type.
ATTNGEN_INLINE vf load(const bf16* p) {
  return vf(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
ATTNGEN_INLINE vf load(const f16* p) { return vf(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p))); }
ATTNGEN_INLINE void store(bf16* p, vf x) {
  vi u = bits(x), rounded = u + 0x7fff + ((u >> 16) & 1);
  u = select(x == x, rounded, u | 0x400000);
  __m256i halves = _mm256_srli_epi32(__m256i(u), 16);
  _mm_storeu_si128((__m128i*)p, _mm_packus_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)));
}
ATTNGEN_INLINE void store(f16* p, vf x) {
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(__m256(x), _MM_FROUND_TO_NEAREST_INT));
}

// Lanes of 64 bits; the product of their low halves as unsigned numbers.
typedef uint64_t vl __attribute__((vector_size(32), may_alias));
ATTNGEN_INLINE vl multiply_low_halves(vl a, vl b) { return vl(_mm256_mul_epu32(__m256i(a), __m256i(b))); }

// Rows become columns.
ATTNGEN_INLINE void transpose(vf (&r)[W]) {
  __m256 t[8], u[8];
#pragma GCC unroll 16
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(__m256(r[i]), __m256(r[i + 1]));
    t[i + 1] = _mm256_unpackhi_ps(__m256(r[i]), __m256(r[i + 1]));
  }
#pragma GCC unroll 16
  for (int i = 0; i < 8; i += 4) {
    u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 4; i++) {
    r[i] = vf(_mm256_permute2f128_ps(u[i], u[i + 4], 0x20));
    r[i + 4] = vf(_mm256_permute2f128_ps(u[i], u[i + 4], 0x31));
  }
}

// 2^x for x <= 0, relative error 2e-7, exactly 1 at 0 and exactly 0 below -126.5; NaN stays NaN. The inner loop of
// every exponential normalizer. Adding 1.5 * 2^23 + 127 rounds x to an integer and leaves it, with the bias of the
// exponent field, in the low bits: the scale is a shift away. The product (not an integer add) keeps any NaN a NaN.
ATTNGEN_INLINE vf exp2_nonpositive(vf x) {
  x = raw_max(splat(-127.0f), x);
  vf shifted = x + 12583039.0f;
  vf f = x - (shifted - 12583039.0f);
  vf p = fma(f, splat(0x1.5bba14p-10f), splat(0x1.3cea88p-7f));
  p = fma(p, f, splat(0x1.c6b752p-5f));
  p = fma(p, f, splat(0x1.ebf9bcp-3f));
  p = fma(p, f, splat(0x1.62e42ap-1f));
  p = fma(p, f, splat(1.0f));
  return p * from_bits(bits(shifted) << 23);
}

}  // namespace attngen
