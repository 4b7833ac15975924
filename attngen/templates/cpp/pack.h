// Copies of queries, keys and values in the order in which the register tiles read them, as numbers or bf16 pairs
// (words). A block of keys is packed once and then used by all query tiles of a group.
//
//   queries  [row][word of D]
//   keys     [panel of keys][word of D][key]        transposed; keys beyond the sequence are zero
//   values   [panel of columns][word of keys][column]   columns beyond Dv are zero
#pragma once
#include "boxes.h"
#include "gemm.h"

namespace attngen {

// The word that holds channels (d, d + 1, ...) of token i, or tokens (i, i + 1, ...) of channel d.
template <class R>
ATTNGEN_INLINE real channel_word(NumberWords, const R& x, long i, long d, long) {
  return widen(x.at(i, d));
}
template <class T>
ATTNGEN_INLINE vf load_channel_words(NumberWords, const T* p) {
  return load(p);
}
#if defined(ATTNGEN_BF16_DOT)
template <class R>
ATTNGEN_INLINE uint32_t channel_word(PairWords, const R& x, long i, long d, long channels) {
  uint32_t high = d + 1 < channels ? x.at(i, d + 1).bits : 0;
  return x.at(i, d).bits | high << 16;
}
// Two neighbouring channels already are a word; it travels through the transpose as an opaque float.
ATTNGEN_INLINE vf load_channel_words(PairWords, const bf16* p) { return vf(_mm512_loadu_ps(p)); }
#endif

template <class Words, class T, int D, class R>
static inline void pack_queries(const R& q, long first, int rows, typename Words::word* out) {
  constexpr int DW = (D + Words::per_word - 1) / Words::per_word;
  const bool dense = q.channel == 1 && DW >= W && D % Words::per_word == 0;
  for (int r = 0; r < rows; r++, out += DW) {
    if (dense) {
      for (int d = 0; d < DW; d += W) {  // the last vector overlaps the one before it instead of ending early
        int at = d + W <= DW ? d : DW - W;
        store((real*)(out + at), load_channel_words(Words(), &q.at(first + r, at * Words::per_word)));
      }
    } else {
      for (int d = 0; d < DW; d++) out[d] = channel_word(Words(), q, first + r, d * Words::per_word, D);
    }
  }
}

// Packs keys [begin, end) of the block that starts at key `first`; those from `present` on do not exist.
template <class Words, class T, int D, int NV, class R>
static inline void pack_keys(const R& k, long first, int begin, int end, int present, typename Words::word* out) {
  constexpr int DW = (D + Words::per_word - 1) / Words::per_word, WIDTH = NV * W;
  const bool dense = k.channel == 1 && DW >= W && D % Words::per_word == 0;
  for (int j = begin; j < end; j += W) {
    typename Words::word* to = out + (j / WIDTH) * (DW * WIDTH) + j % WIDTH;
    if (dense) {
      const T* row[W] = {};
      if (evenly_spaced(k, first + j, W)) {
        const Rows<const T> run = j < present ? run_from(k, first + j) : Rows<const T>{};
        for (int i = 0; i < W; i++) row[i] = run.data + i * run.token;
      } else {
        for (int i = 0; i < W && j + i < present; i++) row[i] = &k.at(first + j + i, 0);
      }
      for (int d = 0; d < DW; d += W) {
        int at = d + W <= DW ? d : DW - W;
        vf block[W];
#pragma GCC unroll 16
        for (int i = 0; i < W; i++)
          block[i] = j + i < present ? load_channel_words(Words(), row[i] + at * Words::per_word) : vf{};
        transpose(block);
#pragma GCC unroll 16
        for (int i = 0; i < W; i++) store((real*)(to + (at + i) * WIDTH), block[i]);
      }
    } else {
      for (int i = 0; i < W; i++)
        for (int d = 0; d < DW; d++)
          to[d * WIDTH + i] = j + i < present ? channel_word(Words(), k, first + j + i, d * Words::per_word, D)
                                              : (typename Words::word)0;
    }
  }
}

// One token's channels side by side: where they are, or copied to `copy` when they are strided.
template <class T, class R>
static __attribute__((noinline)) const T* copy_channels(const R& x, long i, int channels, T* copy) {
  for (int d = 0; d < channels; d++) copy[d] = x.at(i, d);
  return copy;
}
template <class T, class R>
ATTNGEN_INLINE const T* contiguous_channels(const R& x, long i, int channels, T* copy) {
  return x.channel == 1 ? &x.at(i, 0) : copy_channels(x, i, channels, copy);
}

// Sums that become NaN when a value is not finite; several, since one would wait for itself at every value.
constexpr int CHAINS = 4;

// One word row of values: tokens (i, i + 1, ...), all columns, panel by panel.
template <class T, int DV, class R, class Store>
ATTNGEN_INLINE void pack_value_row(NumberWords, const R& v, long i, long tokens, vf (&sums)[CHAINS], Store store_word) {
  T copy[DV];
  if (tokens <= 0) {
    for (int d = 0; d < DV; d += W) store_word(d, vf{});
    return;
  }
  const T* row = contiguous_channels(v, i, DV, copy);
#pragma GCC unroll 8
  for (int d = 0; d < DV; d += W) {
    vf x = load_first(row + d, DV - d), &sum = sums[d / W % CHAINS];
    sum = fma(x, vf{}, sum);
    store_word(d, x);
  }
}
#if defined(ATTNGEN_BF16_DOT)
template <class T, int DV, class R, class Store>
ATTNGEN_INLINE void pack_value_row(PairWords, const R& v, long i, long tokens, vf (&sums)[CHAINS], Store store_word) {
  static const bf16 zeros[DV] = {};
  bf16 copy[2][DV];
  const bf16* even = tokens > 0 ? contiguous_channels(v, i, DV, copy[0]) : zeros;
  const bf16* odd = tokens > 1 ? contiguous_channels(v, i + 1, DV, copy[1]) : zeros;
#pragma GCC unroll 8
  for (int d = 0; d < DV; d += W) {
    vf x = load_first(even + d, DV - d), y = load_first(odd + d, DV - d), &sum = sums[d / W % CHAINS];
    sum = fma(x, vf{}, fma(y, vf{}, sum));
    vi low = vi(_mm512_srli_epi32(__m512i(bits(x)), 16));
    store_word(d, from_bits(low | bits(y)));
  }
}
#endif

// Packs values [begin, end) of the block that starts at key `first`. Bit i of the result tells that the keys
// STEP * i ... STEP * (i + 1) - 1 hold a value that is not finite.
template <class Words, class T, int DV, int NV, int KT, int STEP, class R>
static inline uint64_t pack_values(const R& v, long first, int begin, int end, int present,
                                   typename Words::word* out) {
  static_assert(KT <= 64 * STEP, "one bit per step");
  typedef Panels<(DV + W - 1) / W, NV> P;
  constexpr int WIDE = P::wide * W, NARROW = (P::wide - 1) * W;
  constexpr long PANEL = KT / Words::per_word * WIDE, EDGE = P::wide_count * WIDE;
  uint64_t not_finite = 0;
  for (int step = begin / STEP; step * STEP < end; step++) {
    vf sums[CHAINS] = {};
    for (int j = step * STEP; j < (step + 1) * STEP; j += Words::per_word) {
      const long row = j / Words::per_word;
      pack_value_row<T, DV>(Words(), v, first + j, present - j, sums, [&](int d, vf x) {
        long at = d < EDGE ? d / WIDE * PANEL + row * WIDE + d % WIDE : 0;
        if constexpr (NARROW > 0)
          if (d >= EDGE) {
            const long beyond = d - EDGE;
            at = P::wide_count * PANEL + beyond / NARROW * (PANEL / WIDE * NARROW) + row * NARROW + beyond % NARROW;
          }
        store((real*)(out + at), x);
      });
    }
    const vf sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    if (!all(vb(sum == sum))) not_finite |= (uint64_t)1 << step;
  }
  return not_finite;
}

}  // namespace attngen
