// Query tiles of few rows (decoding): for one row a packed copy costs more than the product that it is made for. Keys
// and values are read where they lie, in the order in which they lie, and used by all heads that share them.
#pragma once
#include "blocks.h"

namespace attngen {

constexpr long FEW_ROWS = 4;      // queries of a head up to which copies do not pay
constexpr int VALUE_STEP = 16;    // values that are read row by row before the next ones: they stay in the L1 cache
constexpr int ACCUMULATORS = W >= 16 ? 16 : 8;

template <class B>
constexpr bool words_fill_vectors() {
  if (Shape<B>::Words::per_word == 1) return true;
  for (int i = 0; i < B::dots; i++)
    if (B::D(i) % (Shape<B>::Words::per_word * W) != 0) return false;
  return true;
}
template <class B>
constexpr bool reads_in_place = B::passes == 0 && !B::scans && words_fill_vectors<B>();

template <class B, class KS, int I = 0, class Args>
static inline bool channels_lie_together(const Args& args, const QueryTile& q) {
  if (KS::template k<I>(args, q.b, q.h).channel != 1) return false;
  if constexpr (I + 1 < B::dots) return channels_lie_together<B, KS, I + 1>(args, q);
  return KS::v(args, q.b, q.h).channel == 1;
}

ATTNGEN_INLINE vf first_words(NumberWords, const real* p, int n) { return load_first(p, n); }
template <class T>
ATTNGEN_INLINE vf first_channels(NumberWords, const T* p, int n) { return load_first(p, n); }
#if defined(ATTNGEN_BF16_DOT)
ATTNGEN_INLINE vi first_words(PairWords, const uint32_t* p, int) { return PairWords::load_words(p); }
ATTNGEN_INLINE vi first_channels(PairWords, const bf16* p, int) { return PairWords::load_words((const uint32_t*)p); }
#endif

// W keys against each row: W sums over channels, which a transpose turns into one sum of vectors.
template <class B, int I, class R>
static inline void dots_in_place(const Scratch<B>& scratch, int g, int rows, const R& k, const TileKeys& t) {
  typedef Shape<B> S;
  typedef typename S::Words Words;
  constexpr int DW = (int)S::words(B::D(I));
  const typename S::word* q = scratch.q[I] + (long)g * S::QT * DW;
  for (int j = t.begin; j < t.end; j += W) {
    const typename B::element* key[W];
    for (int i = 0; i < W; i++)  // beyond the sequence the last key again: masked like everything there
      key[i] = &k.at(t.first + (j + i < t.present ? j + i : t.present - 1), 0);
    for (int r = 0; r < rows; r++) {
      vf sums[W] = {};
      for (int d = 0; d < DW; d += W) {
        const auto x = first_words(Words(), q + r * DW + d, DW - d);
#pragma GCC unroll 16
        for (int i = 0; i < W; i++)
          sums[i] = Words::multiply_add(sums[i], x, first_channels(Words(), key[i] + d * Words::per_word, DW - d));
      }
      transpose(sums);
      for (int n = W / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++) sums[i] += sums[i + n];
      store(scratch.scores[I] + (long)r * S::KT + j, sums[0]);
    }
  }
}
template <class B, class KS, int I = 0, class Args>
static inline void all_dots_in_place(const Args& args, const Scratch<B>& scratch, int g, const QueryTile& q,
                                     const TileKeys& t) {
  dots_in_place<B, I>(scratch, g, q.rows(), KS::template k<I>(args, q.b, q.h), t);
  if constexpr (I + 1 < B::dots) all_dots_in_place<B, KS, I + 1>(args, scratch, g, q, t);
}

// acc += P V for R rows and NV vectors of columns.
template <class B, int R, int NV, class T>
ATTNGEN_INLINE void add_columns(const T* const* value, int keys, const real* weights, int column, real* acc) {
  typedef Shape<B> S;
  vf sums[R][NV];
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 16
    for (int n = 0; n < NV; n++) sums[r][n] = load(acc + r * S::DV_PAD + column + n * W);
  for (int j = 0; j < keys; j++) {
    vf x[NV];
#pragma GCC unroll 16
    for (int n = 0; n < NV; n++) {
      const int d = column + n * W;
      x[n] = B::DV % W == 0 ? load(value[j] + d) : load_first(value[j] + d, B::DV - d);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
      const vf p = splat(weights[(long)r * S::KT + j]);
#pragma GCC unroll 16
      for (int n = 0; n < NV; n++) sums[r][n] = fma(p, x[n], sums[r][n]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 16
    for (int n = 0; n < NV; n++) store(acc + r * S::DV_PAD + column + n * W, sums[r][n]);
}
template <class B, int R, int NV, int FIRST = 0, class T>
ATTNGEN_INLINE void add_all_columns(const T* const* value, int keys, const real* weights, real* acc) {
  constexpr int REST = (Shape<B>::DV_PAD / W - FIRST) % NV, END = Shape<B>::DV_PAD - REST * W;
  for (int column = FIRST * W; column < END; column += NV * W) add_columns<B, R, NV>(value, keys, weights, column, acc);
  if constexpr (REST > 0) add_all_columns<B, R, (NV + 1) / 2, END / W>(value, keys, weights, acc);
}
template <class B, int R, class T>
ATTNGEN_INLINE void add_rows_of(const T* const* value, int keys, const real* weights, real* acc, int rows) {
  typedef Shape<B> S;
  int r = 0;
  for (; r + R <= rows; r += R)
    add_all_columns<B, R, ACCUMULATORS / R>(value, keys, weights + (long)r * S::KT, acc + (long)r * S::DV_PAD);
  if constexpr (R > 1)
    if (r < rows)
      add_rows_of<B, R / 2>(value, keys, weights + (long)r * S::KT, acc + (long)r * S::DV_PAD, rows - r);
}

// acc = acc * factor + P V.
template <class B, class R>
static __attribute__((noinline)) void values_in_place(const R& v, const real* weights, real* acc, const real* factor,
                                                      int rows, const TileKeys& t) {
  typedef Shape<B> S;
  real before[FEW_ROWS * S::DV_PAD];
  __builtin_memcpy(before, acc, sizeof(real) * rows * S::DV_PAD);
  for (int r = 0; r < rows; r++)
    for (int d = 0; d < S::DV_PAD; d += W)
      store(acc + r * S::DV_PAD + d, load(acc + r * S::DV_PAD + d) * factor[r]);
  const int end = t.end < t.present ? t.end : t.present;
  for (int j = t.begin; j < end; j += VALUE_STEP) {
    const int keys = end - j < VALUE_STEP ? end - j : VALUE_STEP;
    const typename B::element* value[VALUE_STEP];
    for (int i = 0; i < keys; i++) value[i] = &v.at(t.first + j + i, 0);
    add_rows_of<B, 4>(value, keys, weights + j, acc, rows);
  }
  // A sum that is not finite may come of 0 * inf, a value of an absent key: again, without those.
  vf watched = {};
  for (int i = 0; i < rows * S::DV_PAD; i += W) watched = fma(load(acc + i), vf{}, watched);
  if (__builtin_expect(!all(vb(watched == watched)), 0)) {
    __builtin_memcpy(acc, before, sizeof(real) * rows * S::DV_PAD);
    careful_value_product<B, NumberWords>(v, weights, acc, factor, rows, t);
  }
}

// Masks are applied on every tile: against reading the keys they cost nothing, and it is one function instead of two.
template <class B, class KS, class Args, class R>
static __attribute__((noinline)) void step_in_place(const Args& args, const Scratch<B>& scratch, int g,
                                                    const QueryTile& q, const TileKeys& t, const R& v) {
  typedef Shape<B> S;
  RowState<B, S::QT>& state = scratch.state[g];
  const int rows = q.rows();
  all_dots_in_place<B, KS>(args, scratch, g, q, t);
  if constexpr (B::anchored) anchor_pass<true, B, KS, S::QT, S::KT, S::QT>(state, rows, scratch.scores, &t);
  weight_pass<true, B, KS, NumberWords, S::QT, S::KT, S::QT>(state, rows, scratch.scores, &t, scratch.visible);
  values_in_place<B>(v, scratch.scores[0], scratch.acc + (long)g * S::QT * S::DV_PAD,
                     B::anchored ? state.factor : scratch.ones, rows, t);
  if constexpr (B::sums_values)
    values_in_place<B>(v, scratch.visible, scratch.v_sum + (long)g * S::QT * S::DV_PAD, scratch.ones, rows, t);
}

// All keys of one key set, for the heads of a group.
template <class B, class KS, class Args>
static void run_keyset_in_place(const Args& args, const QueryTile& group, Scratch<B>& scratch, const Slice& slice) {
  typedef Shape<B> S;
  const auto v = KS::v(args, group.b, group.h);
  visit_blocks<KS, S::KT, false>(args, group, slice, [&](long first, long last, const Interval& hull) {
    for (int g = 0; group.part(g, S::QT).rows() > 0; g++) {
      const QueryTile q = group.part(g, S::QT);
      const Interval seen = visible_hull<KS>(args, q, hull.begin, hull.end);
      if (seen.begin >= seen.end) continue;
      TileKeys t = {first, 0, 0, (int)(last - first)};
      cover(t, seen, W);
      t.seen = t.seen_end = t.begin;
      step_in_place<B, KS>(args, scratch, g, q, t, v);
    }
  });
}

}  // namespace attngen
