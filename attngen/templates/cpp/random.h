// Random numbers that depend on nothing but the coordinates and a seed, so that every tiling, thread count and pass
// (the backward recomputes them) sees the same ones.
//
// Philox4x32-10 (Salmon et al. 2011, the generator of torch.cuda and JAX's alternative), all arithmetic modulo 2^32:
//   counter c = (kv, q, h, b), key k = (seed mod 2^32, seed div 2^32)
//   ten times:  p = 0xD2511F53 * c0 and r = 0xCD9E8D57 * c2 as 64-bit products
//               c = (high(r) ^ c1 ^ k0,  low(r),  high(p) ^ c3 ^ k1,  low(p))
//               k = (k0 + 0x9E3779B9, k1 + 0xBB67AE85)              after every round
//   uniform01 = (c0 >> 8) * 2^-24, in [0, 1), exact in float.
#pragma once
#include "simd.h"

namespace attngen {

ATTNGEN_INLINE vf uniform01(uint64_t seed, integer b, integer h, integer q, vi kv) {
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  vi c0 = kv, c1 = splat(q), c2 = splat(h), c3 = splat(b);
  for (int round = 0; round < 10; round++) {
    vi p_high, p_low, r_high, r_low;
    multiply_wide(c0, splat((integer)(int32_t)0xD2511F53u), p_high, p_low);
    multiply_wide(c2, splat((integer)(int32_t)0xCD9E8D57u), r_high, r_low);
    c0 = r_high ^ c1 ^ (integer)(int32_t)k0;
    c1 = r_low;
    c2 = p_high ^ c3 ^ (integer)(int32_t)k1;
    c3 = p_low;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return to_real((c0 >> 8) & (integer)0xffffff) * (real)0x1p-24;
}
ATTNGEN_INLINE vf uniform01(uint64_t seed, integer b, integer h, vi q, vi kv) = delete;  // a row has one q

}  // namespace attngen
