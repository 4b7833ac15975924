// Random numbers that depend on nothing but the coordinates and a seed, so that every tiling, thread count and pass
// (the backward recomputes them) sees the same ones.
//
// Philox4x32-10 (Salmon et al. 2011, the generator of torch.cuda and JAX's alternative), all arithmetic modulo 2^32:
//   counter c = (c0, q, h, b), key k = (seed mod 2^32, seed div 2^32)
//   ten times:  p = 0xD2511F53 * c0 and r = 0xCD9E8D57 * c2 as 64-bit products
//               c = (high(r) ^ c1 ^ k0,  low(r),  high(p) ^ c3 ^ k1,  low(p))
//               k = (k0 + 0x9E3779B9, k1 + 0xBB67AE85)              after every round
//   word w of the counter c0 belongs to the key 64 * (c0 div 16) + 16 * w + c0 mod 16:
//   one counter serves four keys, and 16 counters 64 keys in a row, on vectors of any width.
//   uniform01 = (word >> 8) * 2^-24, in [0, 1), exact in float.
#pragma once
#include "simd.h"

namespace attngen {

// Four words for N vectors of counters: several at once, because each is one long chain of dependent steps.
template <int N>
struct RandomWords {
  vi word[4][N];
};
template <int N>
ATTNGEN_INLINE RandomWords<N> philox(uint64_t seed, integer b, integer h, integer q, const vi (&counters)[N]) {
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  RandomWords<N> c;
  for (int n = 0; n < N; n++)
    c.word[0][n] = counters[n], c.word[1][n] = splat(q), c.word[2][n] = splat(h), c.word[3][n] = splat(b);
#pragma GCC unroll 1
  for (int round = 0; round < 10; round++) {
#pragma GCC unroll 4
    for (int n = 0; n < N; n++) {
      vi p_high, p_low, r_high, r_low;
      multiply_wide(c.word[0][n], splat((integer)(int32_t)0xD2511F53u), p_high, p_low);
      multiply_wide(c.word[2][n], splat((integer)(int32_t)0xCD9E8D57u), r_high, r_low);
      c.word[0][n] = r_high ^ c.word[1][n] ^ (integer)(int32_t)k0;
      c.word[1][n] = r_low;
      c.word[2][n] = p_high ^ c.word[3][n] ^ (integer)(int32_t)k1;
      c.word[3][n] = p_low;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}
ATTNGEN_INLINE vf uniform_of(vi word) { return to_real((word >> 8) & (integer)0xffffff) * (real)0x1p-24; }

// Keys in any order.
static inline vf uniform01(uint64_t seed, integer b, integer h, integer q, vi kv) {
  const vi counters[] = {((kv >> 6) << 4) + (kv & (integer)15)};
  const RandomWords<1> words = philox(seed, b, h, q, counters);
  const vi w = (kv >> 4) & (integer)3;
  vi x = words.word[0][0];
  for (int i = 1; i < 4; i++) x = select(vb(w == i), words.word[i][0], x);
  return uniform_of(x);
}

// The numbers of 64 keys in a row: made once, read by the vectors of a row one after the other.
struct RandomBlock {
  long first = -1;
  uint64_t seed = 0;
  real numbers[64];
};
static __attribute__((noinline)) void fill_block(RandomBlock& block, uint64_t seed, integer b, integer h, integer q,
                                                 long first) {
  block.first = first, block.seed = seed;
  constexpr int N = 16 / W;
  vi counters[N];
  for (int n = 0; n < N; n++) counters[n] = iota() + (integer)(first / 4 + n * W);
  const RandomWords<N> words = philox(seed, b, h, q, counters);
  for (int i = 0; i < 4; i++)
    for (int n = 0; n < N; n++) store(block.numbers + 16 * i + n * W, uniform_of(words.word[i][n]));
}
ATTNGEN_INLINE vf uniform01(uint64_t seed, integer b, integer h, integer q, const Keys& keys) {
  static_assert(16 % W == 0, "vectors do not straddle blocks");
  if (!keys.random || keys.first % W) return uniform01(seed, b, h, q, keys.index);
  const long first = keys.first / 64 * 64;
  if (keys.random->first != first || keys.random->seed != seed) fill_block(*keys.random, seed, b, h, q, first);
  return load(keys.random->numbers + keys.first % 64);
}

}  // namespace attngen
