// The functions that score programs may call, each for one number (row-uniform values) and for a vector. Accuracy
// in float: exp, exp2, expm1, log, log2, log1p, tanh, sigmoid, softplus, erf within 4 ulp or 1e-6 relative; infinities
// and NaN as in torch. The rest (pow, sin, ...) calls libm lane by lane, and so does everything in the double build.
// (Named mathlib.h because -I would let a math.h hide the system's.)
#pragma once
#include "simd.h"

namespace attngen {

#if defined(ATTNGEN_DOUBLE)
#define ATTNGEN_SCALAR(name) __builtin_##name
#else
#define ATTNGEN_SCALAR(name) __builtin_##name##f
#endif
#define ATTNGEN_BY_SCALAR(name)                                                   \
  ATTNGEN_INLINE real name(real x) { return ATTNGEN_SCALAR(name)(x); }
#define ATTNGEN_BY_LANES(name)                                                    \
  ATTNGEN_INLINE vf name(vf x) {                                                  \
    for (int i = 0; i < W; i++) x[i] = ATTNGEN_SCALAR(name)(x[i]);                \
    return x;                                                                     \
  }

// Scalars.
#if defined(ATTNGEN_HAS_EXP)
// On the vector unit: a call of libm would spill all its registers.
ATTNGEN_INLINE real exp(real x) { return lane0(exp(splat(x))); }
ATTNGEN_INLINE real exp2(real x) { return lane0(exp2(splat(x))); }
#else
ATTNGEN_BY_SCALAR(exp) ATTNGEN_BY_SCALAR(exp2)
#endif
ATTNGEN_BY_SCALAR(expm1)
ATTNGEN_BY_SCALAR(log) ATTNGEN_BY_SCALAR(log2) ATTNGEN_BY_SCALAR(log1p)
ATTNGEN_BY_SCALAR(tanh) ATTNGEN_BY_SCALAR(erf) ATTNGEN_BY_SCALAR(sqrt)
ATTNGEN_BY_SCALAR(sin) ATTNGEN_BY_SCALAR(cos)
ATTNGEN_BY_SCALAR(floor) ATTNGEN_BY_SCALAR(ceil)
ATTNGEN_INLINE real round(real x) { return ATTNGEN_SCALAR(rint)(x); }
ATTNGEN_INLINE real abs(real x) { return ATTNGEN_SCALAR(fabs)(x); }
ATTNGEN_INLINE real pow(real x, real y) { return ATTNGEN_SCALAR(pow)(x, y); }
ATTNGEN_INLINE real exp_nonpositive(real x) { return exp(x); }
ATTNGEN_INLINE real rsqrt(real x) { return 1 / sqrt(x); }
ATTNGEN_INLINE real sign(real x) { return (real)((x > 0) - (x < 0)); }  // 0 for NaN, as torch
ATTNGEN_INLINE real relu(real x) { return x < 0 ? 0 : x; }
ATTNGEN_INLINE real sigmoid(real x) {
  real t = exp(-abs(x));
  return (x < 0 ? t : 1) / (1 + t);
}
ATTNGEN_INLINE real softplus(real x) { return relu(x) + log1p(exp(-abs(x))); }
ATTNGEN_INLINE real maximum(real a, real b) { return a != a ? a : b != b ? b : a > b ? a : b; }
ATTNGEN_INLINE real minimum(real a, real b) { return a != a ? a : b != b ? b : a < b ? a : b; }
ATTNGEN_INLINE real where(bool m, real a, real b) { return m ? a : b; }
ATTNGEN_INLINE integer where(bool m, integer a, integer b) { return m ? a : b; }
ATTNGEN_INLINE integer abs(integer x) { return x < 0 ? -x : x; }
ATTNGEN_INLINE integer maximum(integer a, integer b) { return a > b ? a : b; }
ATTNGEN_INLINE integer minimum(integer a, integer b) { return a < b ? a : b; }

// Vectors that are the same in both builds.
ATTNGEN_BY_LANES(sin) ATTNGEN_BY_LANES(cos)
ATTNGEN_INLINE vf pow(vf x, vf y) {
  for (int i = 0; i < W; i++) x[i] = pow((real)x[i], (real)y[i]);
  return x;
}
ATTNGEN_INLINE vf abs(vf x) { return from_bits(bits(x) & (integer)(~(uint64_t)0 >> (65 - 8 * sizeof(real)))); }
ATTNGEN_INLINE vf copy_sign(vf magnitude, vf sign) {
  const integer low = (integer)(~(uint64_t)0 >> (65 - 8 * sizeof(real)));
  return from_bits((bits(magnitude) & low) | (bits(sign) & ~low));
}
ATTNGEN_INLINE vf where(vb m, vf a, vf b) { return select(m, a, b); }
ATTNGEN_INLINE vi where(vb m, vi a, vi b) { return select(m, a, b); }
ATTNGEN_INLINE vf rsqrt(vf x) { return (real)1 / sqrt(x); }
ATTNGEN_INLINE vf sign(vf x) { return select(vb(x > 0) | vb(x < 0), copy_sign(splat((real)1), x), vf{}); }  // NaN: 0
ATTNGEN_INLINE vf relu(vf x) { return raw_max(vf{}, x); }  // NaN stays: the second operand wins
ATTNGEN_INLINE vf maximum(vf a, vf b) { return select(vb(a != a), a, raw_max(a, b)); }
ATTNGEN_INLINE vf minimum(vf a, vf b) { return select(vb(a != a), a, raw_min(a, b)); }
ATTNGEN_INLINE vi maximum(vi a, vi b) { return select(vb(a > b), a, b); }
ATTNGEN_INLINE vi minimum(vi a, vi b) { return select(vb(a < b), a, b); }
ATTNGEN_INLINE vi abs(vi x) { return maximum(x, -x); }

// Python's // and %: the quotient rounds down, the remainder has the divisor's sign. A divisor of 0 gives 0.
ATTNGEN_INLINE integer floor_div(integer a, integer b) {
  if (b == 0) return 0;
  integer q = a / b;
  return q - ((a % b != 0) & ((a < 0) != (b < 0)));
}
ATTNGEN_INLINE integer modulo(integer a, integer b) { return b == 0 ? 0 : a - floor_div(a, b) * b; }
ATTNGEN_INLINE vi floor_div(vi a, vi b) {
  for (int i = 0; i < W; i++) a[i] = floor_div((integer)a[i], (integer)b[i]);
  return a;
}
#if defined(ATTNGEN_DOUBLE)
ATTNGEN_INLINE vi floor_div(vi a, integer b) { return floor_div(a, splat(b)); }
#else
// No vector unit divides integers. The float quotient is off by little; one correction in each direction is exact
// while |a| < 2^24, which a loop over the lanes covers otherwise.
ATTNGEN_INLINE vi floor_div(vi a, integer b) {
  if (b == 0) return vi{};
  if (any(vb(a >= (1 << 24))) || any(vb(a <= -(1 << 24)))) return floor_div(a, splat(b));
  vi q = to_int(floor(to_real(a) / (real)b));
  vi rest = a - q * b;
  vb low = b > 0 ? vb(rest < 0) : vb(rest > 0), high = b > 0 ? vb(rest >= b) : vb(rest <= b);
  return q + low - high;  // a mask lane is -1
}
#endif
ATTNGEN_INLINE vi modulo(vi a, vi b) { return (a - floor_div(a, b) * b) & vi(b != 0); }
ATTNGEN_INLINE vi modulo(vi a, integer b) { return b == 0 ? vi{} : a - floor_div(a, b) * b; }
ATTNGEN_INLINE real floor_div(real a, real b) { return floor(a / b); }
ATTNGEN_INLINE vf floor_div(vf a, vf b) { return floor(a / b); }

#if defined(ATTNGEN_DOUBLE)
ATTNGEN_BY_LANES(exp) ATTNGEN_BY_LANES(exp2) ATTNGEN_BY_LANES(expm1)
ATTNGEN_BY_LANES(log) ATTNGEN_BY_LANES(log2) ATTNGEN_BY_LANES(log1p)
ATTNGEN_BY_LANES(tanh) ATTNGEN_BY_LANES(erf)
ATTNGEN_INLINE vf exp_nonpositive(vf x) { return exp(x); }
ATTNGEN_INLINE vf sigmoid(vf x) { return 1.0 / (1.0 + exp(-x)); }
ATTNGEN_INLINE vf softplus(vf x) { return raw_max(vf{}, x) + log1p(exp(-abs(x))); }
#else

constexpr float LN2_HIGH = 0x1.62ep-1f, LN2_LOW = 0x1.0bfbe8p-15f, LOG2E_F = 1.44269504f;  // n * LN2_HIGH is exact
#if defined(ATTNGEN_HAS_EXP)
ATTNGEN_INLINE vf exp_nonpositive(vf x) { return exp(x); }
#else
// 2^(n + f) for an integral n and |f| <= 1/2. The scale is applied in two halves, so that results between the
// smallest normal number and 0, or near the largest, are right; at 2^-151 and below the second half is 0, since a
// product that rounds to 0 takes many times as long.
ATTNGEN_INLINE vf exp2_of_parts(vf n, vf f) {
  vf p = fma(f, splat(0x1.41fbbcp-13f), splat(0x1.5f3e54p-10f));
  p = fma(p, f, splat(0x1.3b2d4cp-7f));
  p = fma(p, f, splat(0x1.c6aee8p-5f));
  p = fma(p, f, splat(0x1.ebfbdcp-3f));
  p = fma(p, f, splat(0x1.62e430p-1f));
  p = fma(p, f, splat(1.0f));
  vi e = to_int(n), half = e >> 1;
  return p * from_bits((half + 127) << 23) * from_bits((e - half + 127) << 23 & vi(e > -151));
}
ATTNGEN_INLINE vf exp2(vf x) {
  x = raw_min(splat(129.0f), raw_max(splat(-151.0f), x));
  vf n = round(x);
  return exp2_of_parts(n, x - n);
}
ATTNGEN_INLINE vf exp(vf x) {
  x = raw_min(splat(90.0f), raw_max(splat(-105.0f), x));
  vf n = round(x * LOG2E_F);
  vf r = fma(n, splat(-LN2_LOW), fma(n, splat(-LN2_HIGH), x));
  return exp2_of_parts(n, r * LOG2E_F);
}
// exp(x) for x <= 0: one scale is enough, since results below the smallest normal number are 0.
ATTNGEN_INLINE vf exp_nonpositive(vf x) {
  x = raw_max(splat(-88.0f), x);
  vf n = round(x * LOG2E_F);
  vf r = fma(n, splat(-LN2_LOW), fma(n, splat(-LN2_HIGH), x)) * LOG2E_F;
  vf p = fma(r, splat(0x1.5bba14p-10f), splat(0x1.3cea88p-7f));
  p = fma(p, r, splat(0x1.c6b752p-5f));
  p = fma(p, r, splat(0x1.ebf9bcp-3f));
  p = fma(p, r, splat(0x1.62e42ap-1f));
  p = fma(p, r, splat(1.0f));
  return p * from_bits((to_int(n) + 127) << 23);
}
#endif
ATTNGEN_INLINE vf expm1(vf x) {
  vf p = fma(x, splat(1 / 5040.0f), splat(1 / 720.0f));
  p = fma(p, x, splat(1 / 120.0f));
  p = fma(p, x, splat(1 / 24.0f));
  p = fma(p, x, splat(1 / 6.0f));
  p = fma(p, x, splat(0.5f));
  return select(vb(abs(x) < 0.35f), fma(x * x, p, x), exp(x) - 1.0f);
}

// x = 2^exponent * (1 + z) with 1 + z in [sqrt(1/2), sqrt(2)); returns log(1 + z). Coefficients: Cephes logf.
ATTNGEN_INLINE vf log_of_parts(vf x, vf& exponent) {
  vb tiny = x < 0x1p-126f;
  x = select(tiny, x * 0x1p23f, x);
  vi e = (bits(x) - 0x3f3504f3) >> 23;  // 0x3f3504f3 = sqrt(1/2)
  vf z = from_bits(bits(x) - (e << 23)) - 1.0f;
  exponent = to_real(e + (tiny & -23));
  vf p = fma(z, splat(7.0376836292e-2f), splat(-1.1514610310e-1f));
  p = fma(p, z, splat(1.1676998740e-1f));
  p = fma(p, z, splat(-1.2420140846e-1f));
  p = fma(p, z, splat(1.4249322787e-1f));
  p = fma(p, z, splat(-1.6668057665e-1f));
  p = fma(p, z, splat(2.0000714765e-1f));
  p = fma(p, z, splat(-2.4999993993e-1f));
  p = fma(p, z, splat(3.3333331174e-1f));
  vf square = z * z;
  return z + fma(square, splat(-0.5f), square * z * p);
}
ATTNGEN_INLINE vf log_specials(vf x, vf y) {
  y = select(vb(x < INF), y, x);  // +inf and NaN are their own logarithms
  y = select(vb(x > 0.0f), y, select(vb(x == 0.0f), splat(-INF), splat(__builtin_nanf(""))));
  return select(vb(x == x), y, x);
}
ATTNGEN_INLINE vf log(vf x) {
  vf e, y = log_of_parts(x, e);
  return log_specials(x, fma(e, splat(LN2_HIGH), fma(e, splat(LN2_LOW), y)));
}
ATTNGEN_INLINE vf log2(vf x) {
  vf e, y = log_of_parts(x, e);
  return log_specials(x, fma(y, splat(LOG2E_F), e));
}
// The rounding error of 1 + x cancels in the quotient (Kahan).
ATTNGEN_INLINE vf log1p(vf x) {
  vf u = 1.0f + x;
  vf y = log(u) * (x / (u - 1.0f));
  return select(vb(u == 1.0f) | vb(x == INF), x, y);
}

// Cephes tanhf near 0, the exponential elsewhere.
ATTNGEN_INLINE vf tanh(vf x) {
  vf a = abs(x), z = x * x;
  vf p = fma(z, splat(-5.70498872745e-3f), splat(2.06390887954e-2f));
  p = fma(p, z, splat(-5.37397155531e-2f));
  p = fma(p, z, splat(1.33314422036e-1f));
  p = fma(p, z, splat(-3.33332819422e-1f));
  vf t = exp2_nonpositive(a * (-2 * LOG2E_F));
  return select(vb(a < 0.625f), fma(p * z, x, x), copy_sign((1.0f - t) / (1.0f + t), x));
}
ATTNGEN_INLINE vf sigmoid(vf x) {
  vf t = exp_nonpositive(-abs(x));
  return select(vb(x < 0.0f), t, splat(1.0f)) / (1.0f + t);
}
// max(x, 0) + log(1 + t), t = exp(-|x|) in (0, 1]: there log(1 + t) / t is a polynomial, relative error 3e-8.
ATTNGEN_INLINE vf softplus(vf x) {
  vf t = exp_nonpositive(-abs(x));
  vf p = fma(t, splat(0x1.56ee12p-8f), splat(-0x1.e369fep-6f));
  p = fma(p, t, splat(0x1.4069e4p-4f));
  p = fma(p, t, splat(-0x1.17d2c8p-3f));
  p = fma(p, t, splat(0x1.874a84p-3f));
  p = fma(p, t, splat(-0x1.fcc8c8p-3f));
  p = fma(p, t, splat(0x1.553004p-2f));
  p = fma(p, t, splat(-0x1.fffeacp-2f));
  p = fma(p, t, splat(0x1.fffffep-1f));
  return fma(p, t, raw_max(vf{}, x));
}
// x P(x^2) / Q(x^2), relative error 4e-7, and exactly 1 from 3.92 on. All coefficients are positive: nothing cancels;
// among the best fits these are the ones whose rounding errors balance.
ATTNGEN_INLINE vf erf(vf x) {
  x = raw_min(splat(3.92f), raw_max(splat(-3.92f), x));
  vf s = x * x;
  vf p = fma(s, splat(0x1.7c7a04p-19f), splat(0x1.9d09b6p-12f));
  p = fma(p, s, splat(0x1.553448p-8f));
  p = fma(p, s, splat(0x1.2ac092p-4f));
  p = fma(p, s, splat(0x1.0d982cp-2f));
  p = fma(p, s, splat(0x1.8f6f5ep+0f));
  vf q = fma(s, splat(0x1.b9d530p-15f), splat(0x1.a55b7ep-10f));
  q = fma(q, s, splat(0x1.531cc4p-6f));
  q = fma(q, s, splat(0x1.4322e4p-3f));
  q = fma(q, s, splat(0x1.637432p-1f));
  q = fma(q, s, splat(0x1.61fd76p+0f));
  return x * p / q;
}
#endif

}  // namespace attngen
