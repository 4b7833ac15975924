// Vectors for any target of GCC or clang, without intrinsics: 16 bytes of float, or 32 bytes of double for the exact
// build (ATTNGEN_DOUBLE). What GCC vectors cannot express is a loop over the lanes. Same names as simd_avx2.h; in
// the double build integers have 64 bits, so that a mask has the shape of what it masks.
#pragma once
#include "types.h"

namespace attngen {

#if defined(ATTNGEN_DOUBLE)
typedef double real;
typedef int64_t integer;
constexpr int W = 4;
#define ATTNGEN_LIBM(name) __builtin_##name
#else
typedef float real;
typedef int32_t integer;
constexpr int W = 4;
#define ATTNGEN_LIBM(name) __builtin_##name##f
#endif
typedef real vf __attribute__((vector_size(W * sizeof(real)), may_alias));
typedef integer vi __attribute__((vector_size(W * sizeof(real)), may_alias));
typedef vi vb;

template <class F>
ATTNGEN_INLINE vf map_lanes(vf x, F f) {
  for (int i = 0; i < W; i++) x[i] = f((real)x[i]);
  return x;
}

ATTNGEN_INLINE vf splat(real x) { return vf{} + x; }
ATTNGEN_INLINE vi splat(integer x) { return vi{} + x; }
#if defined(ATTNGEN_DOUBLE)
ATTNGEN_INLINE vf splat(float x) { return vf{} + (real)x; }
ATTNGEN_INLINE vi splat(int32_t x) { return vi{} + (integer)x; }
#endif
ATTNGEN_INLINE vb lanes(bool x) { return splat((integer)(x ? -1 : 0)); }
ATTNGEN_INLINE vi iota() { return vi{0, 1, 2, 3}; }
ATTNGEN_INLINE vb first_lanes(long n) { return iota() < splat((integer)n); }

ATTNGEN_INLINE vf load(const real* p) {
  vf x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
ATTNGEN_INLINE void store(real* p, vf x) { __builtin_memcpy(p, &x, sizeof x); }
ATTNGEN_INLINE vf load_first(const real* p, long n) {
  vf x = {};
  for (int i = 0; i < W && i < n; i++) x[i] = p[i];
  return x;
}
ATTNGEN_INLINE void store_first(real* p, vf x, long n) {
  for (int i = 0; i < W && i < n; i++) p[i] = x[i];
}

ATTNGEN_INLINE vi bits(vf x) { return (vi)x; }
ATTNGEN_INLINE vf from_bits(vi x) { return (vf)x; }
ATTNGEN_INLINE real fma(real a, real b, real c) { return a * b + c; }
ATTNGEN_INLINE vf fma(vf a, vf b, vf c) { return a * b + c; }
ATTNGEN_INLINE vf select(vb m, vf a, vf b) { return (vf)((m & (vi)a) | (~m & (vi)b)); }
ATTNGEN_INLINE vi select(vb m, vi a, vi b) { return (m & a) | (~m & b); }
// As on x86: the second operand where either one is NaN.
ATTNGEN_INLINE vf raw_max(vf a, vf b) { return select(vb(a > b), a, b); }
ATTNGEN_INLINE vf raw_min(vf a, vf b) { return select(vb(a < b), a, b); }
ATTNGEN_INLINE bool any(vb m) {
  integer x = 0;
  for (int i = 0; i < W; i++) x |= m[i];
  return x != 0;
}
ATTNGEN_INLINE bool all(vb m) { return !any(~m); }
ATTNGEN_INLINE vf sqrt(vf x) {
  return map_lanes(x, [](real a) { return ATTNGEN_LIBM(sqrt)(a); });
}
ATTNGEN_INLINE vf round(vf x) {
  return map_lanes(x, [](real a) { return ATTNGEN_LIBM(rint)(a); });
}
ATTNGEN_INLINE vf floor(vf x) {
  return map_lanes(x, [](real a) { return ATTNGEN_LIBM(floor)(a); });
}
ATTNGEN_INLINE vf ceil(vf x) {
  return map_lanes(x, [](real a) { return ATTNGEN_LIBM(ceil)(a); });
}
// Towards zero; NaN and values out of range become the smallest integer, as on x86 (the plain conversion would be
// undefined).
ATTNGEN_INLINE vi to_int(vf x) {
  constexpr real limit = sizeof(real) == 8 ? (real)0x1p63 : (real)0x1p31;
  vi y;
  for (int i = 0; i < W; i++)
    y[i] = x[i] > -limit && x[i] < limit ? (integer)x[i] : (integer)(sizeof(real) == 8 ? INT64_MIN : INT32_MIN);
  return y;
}
ATTNGEN_INLINE vf to_real(vi x) { return __builtin_convertvector(x, vf); }

ATTNGEN_INLINE real lane0(vf x) { return x[0]; }
ATTNGEN_INLINE real reduce_max(vf x) {
  real y = x[0];
  for (int i = 1; i < W; i++) y = y > x[i] ? y : x[i];
  return y;
}
ATTNGEN_INLINE real reduce_add(vf x) { return (x[0] + x[2]) + (x[1] + x[3]); }
// Lane i becomes lane i - N; the first N lanes become 0.
template <int N>
ATTNGEN_INLINE vf shift_lanes(vf x) {
  vf y = {};
  for (int i = N; i < W; i++) y[i] = x[i - N];
  return y;
}
ATTNGEN_INLINE vf reverse(vf x) { return vf{x[3], x[2], x[1], x[0]}; }

// W consecutive elements of any storage type.
template <class T>
ATTNGEN_INLINE vf load(const T* p) {
  vf x;
  for (int i = 0; i < W; i++) x[i] = widen(p[i]);
  return x;
}
template <class T>
ATTNGEN_INLINE void store(T* p, vf x) {
  for (int i = 0; i < W; i++) p[i] = narrow<T>::of(x[i]);
}

// Lanes of 64 bits; the product of their low halves as unsigned numbers.
typedef uint64_t vl __attribute__((vector_size(W * sizeof(real)), may_alias));
ATTNGEN_INLINE vl multiply_low_halves(vl a, vl b) { return (a & 0xffffffffu) * (b & 0xffffffffu); }

ATTNGEN_INLINE void transpose(vf (&r)[W]) {
  vf t[W];
  for (int i = 0; i < W; i++)
    for (int j = 0; j < W; j++) t[j][i] = r[i][j];
  for (int i = 0; i < W; i++) r[i] = t[i];
}

// 2^x for x <= 0, exactly 1 at 0; NaN stays NaN. See simd_avx2.h for the bit trick of the float version.
ATTNGEN_INLINE vf exp2_nonpositive(vf x) {
#if defined(ATTNGEN_DOUBLE)
  return map_lanes(x, [](real a) { return __builtin_exp2(a); });
#else
  x = raw_max(splat(-127.0f), x);
  vf shifted = x + 12583039.0f;
  vf f = x - (shifted - 12583039.0f);
  vf p = fma(f, splat(0x1.5bba14p-10f), splat(0x1.3cea88p-7f));
  p = fma(p, f, splat(0x1.c6b752p-5f));
  p = fma(p, f, splat(0x1.ebf9bcp-3f));
  p = fma(p, f, splat(0x1.62e42ap-1f));
  p = fma(p, f, splat(1.0f));
  return p * from_bits(bits(shifted) << 23);
#endif
}

}  // namespace attngen
