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
// A counter occupies 64 bits, of which only the low half counts: a product is there whole, and its halves are a shift
// apart. So a vector of 32-bit counters takes two such vectors, for the even and the odd ones.
template <int N>
ATTNGEN_INLINE RandomWords<N> philox(uint64_t seed, integer b, integer h, integer q, const vi (&counters)[N]) {
  constexpr int PARTS = 8 / sizeof(integer);
  constexpr uint64_t LOW = 0xffffffff, P = 0xD2511F53, R = 0xCD9E8D57, K0 = 0x9E3779B9, K1 = 0xBB67AE85;
  const uint64_t k0 = seed & LOW, k1 = seed >> 32;
  // In the first two rounds one of the two factors is the same for all keys.
  const uint64_t r_first = R * (uint32_t)h, p_second = P * (r_first >> 32 ^ (uint32_t)q ^ k0);
  const vl first = vl{} + ((uint32_t)b ^ k1), second = vl{} + (r_first ^ (k0 + K0));
  const vl third = vl{} + (p_second >> 32 ^ (k1 + K1));
  vl c[4][PARTS * N];
  for (int n = 0; n < PARTS * N; n++) {
    const vl p = multiply_low_halves(vl(counters[n / PARTS]) >> 32 * (n % PARTS), vl{} + P);
    const vl r = multiply_low_halves(p >> 32 ^ first, vl{} + R);
    c[0][n] = r >> 32 ^ second;
    c[1][n] = r;
    c[2][n] = p ^ third;
    c[3][n] = vl{} + p_second;
  }
  vl key0 = vl{} + (k0 + 2 * K0), key1 = vl{} + (k1 + 2 * K1);
#pragma GCC unroll 1
  for (int round = 2; round < 10; round++) {
#pragma GCC unroll 8
    for (int n = 0; n < PARTS * N; n++) {
      const vl p = multiply_low_halves(c[0][n], vl{} + P), r = multiply_low_halves(c[2][n], vl{} + R);
      c[0][n] = r >> 32 ^ c[1][n] ^ key0;
      c[1][n] = r;
      c[2][n] = p >> 32 ^ c[3][n] ^ key1;
      c[3][n] = p;
    }
    key0 += K0, key1 += K1;
  }
  RandomWords<N> words;
  for (int i = 0; i < 4; i++)
    for (int n = 0; n < N; n++) {
      if constexpr (PARTS == 2)
        words.word[i][n] = select(vb(vl{} + (LOW << 32)), vi(c[i][2 * n + 1] << 32), vi(c[i][2 * n]));
      else
        words.word[i][n] = vi(c[i][n] & LOW);
    }
  return words;
}
ATTNGEN_INLINE vf uniform_of(vi word) {
  typedef uint32_t unsigned_words __attribute__((vector_size(sizeof(vi)), may_alias));
  return to_real(vi(unsigned_words(word) >> 8)) * (real)0x1p-24;
}

// Keys in any order.
static __attribute__((noinline)) vf uniform01(uint64_t seed, integer b, integer h, integer q, vi kv) {
  const vi counters[] = {((kv >> 6) << 4) + (kv & (integer)15)};
  const RandomWords<1> words = philox(seed, b, h, q, counters);
  const vi w = (kv >> 4) & (integer)3;
  vi x = words.word[0][0];
  for (int i = 1; i < 4; i++) x = select(vb(w == i), words.word[i][0], x);
  return uniform_of(x);
}

// The numbers of BLOCKS times 64 keys in a row.
template <int BLOCKS>
ATTNGEN_INLINE void make_numbers(uint64_t seed, integer b, integer h, integer q, long first, real* to) {
  static_assert(16 % W == 0, "vectors do not straddle blocks");
  constexpr int N = 16 / W;
  vi counters[BLOCKS * N];
  for (int n = 0; n < BLOCKS * N; n++) counters[n] = iota() + (integer)(first / 4 + n * W);
  const RandomWords<BLOCKS * N> words = philox(seed, b, h, q, counters);
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++)
#pragma GCC unroll 12
    for (int n = 0; n < BLOCKS * N; n++) store(to + n / N * 64 + 16 * i + n % N * W, uniform_of(words.word[i][n]));
}

// The numbers of a pass over the keys of a row: made at once, read by one vector after the other.
struct RandomBlock {
  static constexpr long MOST = 256;
  long first = 0, count = 0;
  uint64_t seed = 0;
  alignas(64) real numbers[MOST + W];
  real others[W];
};
// Where the W numbers from key `at` on are, in a pass over keys [from, to).
static __attribute__((noinline)) const real* find_numbers(RandomBlock& block, uint64_t seed, integer b, integer h,
                                                          integer q, long at, long from, long to) {
  if (block.count > 0 && block.seed != seed) {  // two generators in one program
    store(block.others, uniform01(seed, b, h, q, iota() + (integer)at));
    return block.others;
  }
  const long first = (to - (from & -64) <= RandomBlock::MOST ? from : at) & -64;
  const long last = first + RandomBlock::MOST < to ? first + RandomBlock::MOST : to + 63 & -64;
  block.first = first, block.count = last - first, block.seed = seed;
  long i = 0;
  for (; block.count - i >= 192; i += 192) make_numbers<3>(seed, b, h, q, first + i, block.numbers + i);
  for (; block.count - i >= 128; i += 128) make_numbers<2>(seed, b, h, q, first + i, block.numbers + i);
  for (; i < block.count; i += 64) make_numbers<1>(seed, b, h, q, first + i, block.numbers + i);
  return block.numbers + (at - first);
}
ATTNGEN_INLINE vf uniform01(uint64_t seed, integer b, integer h, integer q, const Keys& keys) {
  if (!keys.random) return uniform01(seed, b, h, q, keys.index);
  RandomBlock& block = *keys.random;
  const long at = keys.first - block.first;
  if (at >= 0 && at + W <= block.count && block.seed == seed) return load(block.numbers + at);
  return load(find_numbers(block, seed, b, h, q, keys.first, keys.from, keys.to));
}

}  // namespace attngen
