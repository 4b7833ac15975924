// Copies of queries, keys and values in the order in which the register tiles read them, as numbers or bf16 pairs
// (words). A block of keys is packed once and then used by all query tiles of a group.
//
//   queries  [row][word of D]
//   keys     [panel of keys][word of D][key]        transposed; keys beyond the sequence are zero
//   values   [panel of columns][word of keys][column]   columns beyond Dv are zero
#pragma once
#include "gemm.h"

namespace attngen {

// The word that holds channels (d, d + 1, ...) of token i, or tokens (i, i + 1, ...) of channel d.
template <class T> ATTNGEN_INLINE real channel_word(NumberWords, Rows<const T> x, long i, long d, long) {
  return widen(x.at(i, d));
}
template <class T> ATTNGEN_INLINE vf load_channel_words(NumberWords, const T* p) { return load(p); }
#if defined(ATTNGEN_BF16_DOT)
ATTNGEN_INLINE uint32_t channel_word(PairWords, Rows<const bf16> x, long i, long d, long channels) {
  uint32_t high = d + 1 < channels ? x.at(i, d + 1).bits : 0;
  return x.at(i, d).bits | high << 16;
}
// Two neighbouring channels already are a word; it travels through the transpose as an opaque float.
ATTNGEN_INLINE vf load_channel_words(PairWords, const bf16* p) { return vf(_mm512_loadu_ps(p)); }
#endif

template <class Words, class T, int D>
static inline void pack_queries(Rows<const T> q, long first, int rows, typename Words::word* out) {
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
template <class Words, class T, int D, int NV>
static inline void pack_keys(Rows<const T> k, long first, int begin, int end, int present, typename Words::word* out) {
  constexpr int DW = (D + Words::per_word - 1) / Words::per_word, WIDTH = NV * W;
  const bool dense = k.channel == 1 && DW >= W && D % Words::per_word == 0;
  for (int j = begin; j < end; j += W) {
    typename Words::word* to = out + (j / WIDTH) * (DW * WIDTH) + j % WIDTH;
    if (dense) {
      for (int d = 0; d < DW; d += W) {
        int at = d + W <= DW ? d : DW - W;
        vf block[W];
#pragma GCC unroll 16
        for (int i = 0; i < W; i++)
          block[i] = j + i < present ? load_channel_words(Words(), &k.at(first + j + i, at * Words::per_word)) : vf{};
        transpose(block);
#pragma GCC unroll 16
        for (int i = 0; i < W; i++) store((real*)(to + (at + i) * WIDTH), block[i]);
      }
    } else {
      for (int i = 0; i < W; i++)
        for (int d = 0; d < DW; d++)
          to[d * WIDTH + i] =
              j + i < present ? channel_word(Words(), k, first + j + i, d * Words::per_word, D) : (typename Words::word)0;
    }
  }
}

// W columns of one token, zero beyond the last column.
template <class T> ATTNGEN_INLINE vf load_columns(Rows<const T> v, long i, int d, int columns) {
  if (v.channel == 1) return load_first(&v.at(i, d), columns);
  real x[W] = {};
  for (int c = 0; c < W && c < columns; c++) x[c] = widen(v.at(i, d + c));
  return load(x);
}

// One word row of values: W columns of the tokens (i, i + 1, ...). `sum` becomes NaN when one is not finite.
template <class T>
ATTNGEN_INLINE void pack_value_words(NumberWords, Rows<const T> v, long i, long tokens, int d, int columns, real* to,
                                     vf& sum) {
  vf x = tokens > 0 ? load_columns(v, i, d, columns) : vf{};
  sum = fma(x, vf{}, sum);
  store(to, x);
}
#if defined(ATTNGEN_BF16_DOT)
ATTNGEN_INLINE void pack_value_words(PairWords, Rows<const bf16> v, long i, long tokens, int d, int columns,
                                     uint32_t* to, vf& sum) {
  vf even = tokens > 0 ? load_columns(v, i, d, columns) : vf{}, odd = tokens > 1 ? load_columns(v, i + 1, d, columns) : vf{};
  sum = fma(even, vf{}, fma(odd, vf{}, sum));
  vi high = bits(odd), low = vi(_mm512_srli_epi32(__m512i(bits(even)), 16));
  store((float*)to, from_bits(low | high));
}
#endif

// Packs values [begin, end) of the block that starts at key `first`; true when all of them are finite.
template <class Words, class T, int DV, int NV, int KT>
static inline bool pack_values(Rows<const T> v, long first, int begin, int end, int present, typename Words::word* out) {
  typedef Panels<(DV + W - 1) / W, NV> P;
  vf sum = {};
  int d = 0;
  for (int p = 0; p < P::count; p++) {
    const int width = (p < P::wide_count ? P::wide : P::wide - 1) * W;
    for (int j = begin; j < end; j += Words::per_word)
      for (int c = 0; c < width; c += W)
        pack_value_words(Words(), v, first + j, present - j, d + c, DV - d - c, out + (j / Words::per_word) * width + c, sum);
    out += KT / Words::per_word * width;
    d += width;
  }
  return all(vb(sum == sum));
}

}  // namespace attngen
