// One query tile meets one key tile in the backward: S = Q K^T and dP = dA V^T, the pairs, then dV += P^T dA,
// dK += dS^T Q, dQ += dS K, where dA is the cotangent of the accumulator. Where the forward multiplies bf16 pairs, so
// do all five products; P, dS and dA are rounded for that alone.
#pragma once
#include "forward.h"
#include "sums.h"

namespace attngen {

// A number as an argument.
template <int N>
struct Number {
  static constexpr int value = N;
};

// The numbers of one row, beyond those of the forward.
template <class R, int PASSES>
struct BackRow : R {
  real slope, offset, anchor, m;  // m: the anchor, 0 where no key was visible
  RowTotals totals;
  real dmass, dr[PASSES > 0 ? PASSES : 1];
  double before, dbefore;  // a scan: what was kept so far, and the cotangents that are still to come
};

template <class G>
struct BackScratch {
  typedef typename G::branch B;
  typedef Shape<B> S;
  typedef typename S::word word;
  static constexpr int pad(int columns) { return (columns + W - 1) / W * W; }

  // Of the group: rows for the products that read them one by one, panels for those that read them side by side.
  word *q[B::dots], *q_panels[B::dots], *dacc, *dacc_panels;
  real *dvsum_panels, *dvsum_totals;
  typename G::Row* rows;
  uint64_t* careful;  // by tile: queries (bit 0) or cotangents (bit 1) that are not finite
  // Of the key block: transposed, and side by side.
  word *k[B::dots], *k_panels[B::dots], *v;
  // Of the tile. The pairs leave P in the place of dP and dS in that of S, as words of rows; `ds` holds dS as words of
  // keys where those are others.
  real *scores[B::dots], *dp, *visible, *before, *dbefore;
  word* ds[B::dots];

  explicit BackScratch(Arena& arena) {
    constexpr long rows_of_group = (long)S::G * S::QT, pairs = S::QT * S::KT, per_word = S::Words::per_word;
    for (int i = 0; i < B::dots; i++) {
      q[i] = arena.take<word>(rows_of_group * S::words(B::D(i)) + W);
      q_panels[i] = arena.take<word>(rows_of_group / per_word * pad(B::D(i)));
      k[i] = arena.take<word>(S::KT * S::words(B::D(i)) + W);
      k_panels[i] = arena.take<word>(S::KT / per_word * pad(B::D(i)));
      scores[i] = arena.take<real>(pairs);
      ds[i] = per_word == 1 ? (word*)scores[i] : arena.take<word>(pairs / per_word);
    }
    dacc = arena.take<word>(rows_of_group * S::DV_PAD / per_word);
    dacc_panels = arena.take<word>(rows_of_group / per_word * S::DV_PAD);
    dvsum_panels = arena.take<real>(B::sums_values ? rows_of_group * S::DV_PAD : 0);
    dvsum_totals = arena.take<real>(B::sums_values ? (long)S::G * S::DV_PAD : 0);
    rows = arena.take<typename G::Row>(rows_of_group);
    careful = arena.take<uint64_t>(S::G);
    v = arena.take<word>(S::KT * S::words(B::DV) + W);
    dp = arena.take<real>(pairs);
    visible = arena.take<real>(B::sums_values ? pairs : 0);
    before = arena.take<real>(G::scans ? S::KT : 0);
    dbefore = arena.take<real>(G::scans ? S::KT : 0);
  }
};

// A task's own sums: rows of dQ, and for the keys that it sees rows of dK and dV.
template <class G>
struct Private {
  real* dq[G::branch::dots];
  real *dk[G::keysets][G::branch::dots], *dv[G::keysets];
  real* copies[G::targets > 0 ? G::targets : 1];
};

// C += A B for packed B of COLUMNS columns with room for LENGTH rows; B begins at its row `first`. A transposed A is cut
// into strips of a register tile's height: its columns lie far apart, and a strip of them stays in the L1 cache.
template <class Words, class Tile, int COLUMNS, int LENGTH, long A_STEP>
static inline void add_product(const typename Words::word* a, long a_row, const typename Words::word* b, int first,
                               real* c, int rows, long summands) {
  constexpr int per_word = Words::per_word;
  const long steps = (summands + per_word - 1) / per_word;
  constexpr int PAD = (COLUMNS + W - 1) / W * W;
  typedef Panels<PAD / W, Tile::PV_NV> P;
  const int at_once = A_STEP == 1 ? rows : Tile::PV_MR;
  for (int r = 0; r < rows; r += at_once) {
    const int here = rows - r < at_once ? rows - r : at_once;
    long column = 0;
    for (int i = 0; i < P::count; i++) {
      const int width = (i < P::wide_count ? P::wide : P::wide - 1) * W;
      const typename Words::word* panel = b + LENGTH / per_word * column + (long)first / per_word * width;
      real* to = c + (long)r * PAD + column;
      if (i < P::wide_count)
        panel_product<Words, Tile::PV_MR, P::wide, true, false, A_STEP>(a + r * a_row, a_row, panel, to, PAD, nullptr,
                                                                        steps, here);
      else if constexpr (P::wide > 1)
        panel_product<Words, Tile::PV_MR, P::wide - 1, true, false, A_STEP>(a + r * a_row, a_row, panel, to, PAD,
                                                                            nullptr, steps, here);
      column += width;
    }
  }
}

// Pairs (query r, key j) of a tile: words of rows hold two queries, words of keys two keys, numbers one of each.
template <int KT>
struct WordsOfRows {
  const void* tile;
  real at(NumberWords, long r, long j) const { return ((const real*)tile)[r * KT + j]; }
#if defined(ATTNGEN_BF16_DOT)
  real at(PairWords, long r, long j) const { return widen(((const bf16*)tile)[(r / 2 * KT + j) * 2 + r % 2]); }
#endif
};
template <int KT>
struct WordsOfKeys {
  const void* tile;
  real at(NumberWords, long r, long j) const { return ((const real*)tile)[r * KT + j]; }
#if defined(ATTNGEN_BF16_DOT)
  real at(PairWords, long r, long j) const { return widen(((const bf16*)tile)[r * KT + j]); }
#endif
};

ATTNGEN_INLINE void store_pairs(NumberWords, real* tile, real*, int kt, int r, int j, vf x) {
  store(tile + (long)r * kt + j, x);
}
#if defined(ATTNGEN_BF16_DOT)
// Words of two rows take half the room: row r / 2 was read before, or is the one at hand.
ATTNGEN_INLINE void store_pairs(PairWords, real* tile, uint32_t* by_key, int kt, int r, int j, vf x) {
  const __m256i halves = (__m256i)_mm512_cvtneps_pbh(__m512(x));
  vi* to = (vi*)((uint32_t*)tile + (long)(r / 2) * kt + j);
  const vi words = vi(_mm512_cvtepu16_epi32(halves));
  *to = r % 2 == 0 ? words : *to | words << 16;
  if (by_key) _mm256_storeu_si256((__m256i*)((bf16*)by_key + (long)r * kt + j), halves);
}
#endif

// C += A B where B holds infinities or NaN: 0 * inf must not reach a sum. `a(r, s)` is what row r has for row s of B.
template <class A, class R>
static __attribute__((noinline)) void add_product_carefully(const A& a, const R& b, long first, int columns, real* c,
                                                            long c_row, int rows, long steps) {
  for (int r = 0; r < rows; r++)
    for (long s = 0; s < steps; s++) {
      const real x = a(r, s);
      if (x != 0)
        for (int d = 0; d < columns; d++) c[r * c_row + d] = fma(x, widen(b.at(first + s, d)), c[r * c_row + d]);
    }
}

template <class G, int I = 0>
static inline void back_scores(const BackScratch<G>& scratch, int g, int rows, const TileKeys& t) {
  typedef Shape<typename G::branch> S;
  constexpr long DW = S::words(G::branch::D(I));
  const typename S::word* q = scratch.q[I] + g * S::QT * DW;
  for (int j = t.begin; j < t.end; j += S::PANEL)
    panel_product<typename S::Words, S::tile::QK_MR, S::tile::QK_NV, false>(
        q, DW, scratch.k[I] + j * DW, scratch.scores[I] + j, S::KT, nullptr, DW, rows);
  if constexpr (I + 1 < G::branch::dots) back_scores<G, I + 1>(scratch, g, rows, t);
}

// dP = dA V^T: how much each value would like to move along the cotangent.
template <class G>
static inline void value_cotangents(const BackScratch<G>& scratch, int g, int rows, const TileKeys& t) {
  typedef Shape<typename G::branch> S;
  constexpr long DW = S::words(G::branch::DV), ROW = S::DV_PAD / S::Words::per_word;
  const typename S::word* a = scratch.dacc + (long)g * S::QT * ROW;
  for (int j = t.begin; j < t.end; j += S::PANEL)
    panel_product<typename S::Words, S::tile::QK_MR, S::tile::QK_NV, false>(a, ROW, scratch.v + j * DW, scratch.dp + j,
                                                                            S::KT, nullptr, DW, rows);
}

template <class G, class KS, int I = 0, class Args>
static inline void key_and_query_sums(const Args& args, const BackScratch<G>& scratch, const Private<G>& own,
                                      const QueryTile& strip, const QueryTile& q, int g, int keyset, long first_key,
                                      const TileKeys& t, bool finite_keys) {
  typedef typename G::branch B;
  typedef Shape<B> S;
  constexpr int D = B::D(I), PAD = BackScratch<G>::pad(D);
  const int rows = q.rows(), keys = t.end - t.begin;
  typedef typename S::Words Words;
  typedef typename S::word word;
  constexpr int per_word = Words::per_word;
  real* dk = own.dk[keyset][I] + (t.first + t.begin - first_key) * PAD;
  real* dq = own.dq[I] + (q.begin - strip.begin) * (long)PAD;
  if (__builtin_expect(scratch.careful[g] & 1, 0))
    add_product_carefully(
        [&](long j, long r) { return WordsOfRows<S::KT>{scratch.scores[I]}.at(Words(), r, t.begin + j); },
        B::template q<I>(args, q.b, q.h), q.begin, D, dk, PAD, keys, rows);
  else
    add_product<Words, typename S::tile, D, S::QT, S::KT>((const word*)scratch.scores[I] + t.begin, 1,
                                                          scratch.q_panels[I] + (long)g * S::QT / per_word * PAD, 0, dk,
                                                          keys, rows);
  if (__builtin_expect(finite_keys, 1))
    add_product<Words, typename S::tile, D, S::KT, 1>(scratch.ds[I] + t.begin / per_word, S::KT / per_word,
                                                      scratch.k_panels[I], t.begin, dq, rows, keys);
  else
    add_product_carefully(
        [&](long r, long j) { return WordsOfKeys<S::KT>{scratch.ds[I]}.at(Words(), r, t.begin + j); },
        KS::template k<I>(args, q.b, q.h), t.first + t.begin, D, dq, PAD, rows,
        t.present < t.end ? t.present - t.begin : keys);
  if constexpr (I + 1 < B::dots)
    key_and_query_sums<G, KS, I + 1>(args, scratch, own, strip, q, g, keyset, first_key, t, finite_keys);
}

// Rows of DV_PAD numbers, as the products read them.
template <class S, class word>
static inline auto rows_of_words(const word* x, long first) {
  typedef typename S::Words::number number;
  return Rows<const number>{(number*)x + first * S::DV_PAD, S::DV_PAD, 1};
}

template <class G>
static inline void value_sums(const BackScratch<G>& scratch, const Private<G>& own, const QueryTile& q, int g,
                              int keyset, long first_key, const TileKeys& t, bool partial) {
  typedef Shape<typename G::branch> S;
  typedef typename G::branch B;
  const int rows = q.rows(), keys = t.end - t.begin;
  typedef typename S::Words Words;
  typedef typename S::word word;
  const long at = (long)g * S::QT * S::DV_PAD;
  real* dv = own.dv[keyset] + (t.first + t.begin - first_key) * S::DV_PAD;
  if (__builtin_expect(scratch.careful[g] & 2, 0))
    add_product_carefully(
        [&](long j, long r) { return WordsOfRows<S::KT>{scratch.dp}.at(Words(), r, t.begin + j); },
        rows_of_words<S>(scratch.dacc, (long)g * S::QT), 0, B::DV, dv, S::DV_PAD, keys, rows);
  else
    add_product<Words, typename S::tile, B::DV, S::QT, S::KT>((const word*)scratch.dp + t.begin, 1,
                                                              scratch.dacc_panels + at / Words::per_word, 0, dv, keys,
                                                              rows);
  if constexpr (B::sums_values) {
    if (partial)
      add_product<NumberWords, typename S::tile, B::DV, S::QT, S::KT>(scratch.visible + t.begin, 1,
                                                                      scratch.dvsum_panels + at, 0, dv, keys, rows);
    else  // every row sees every key
      for (int j = 0; j < keys; j++)
        for (int d = 0; d < S::DV_PAD; d += W)
          store(dv + j * S::DV_PAD + d, load(dv + j * S::DV_PAD + d) + load(scratch.dvsum_totals + g * S::DV_PAD + d));
  }
}

}  // namespace attngen
