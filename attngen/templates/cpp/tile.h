// One query tile meets one packed key tile: S = Q K^T, the row passes, acc = acc * factor + P V. Also the memory in
// which that happens.
#pragma once
#include "ahead.h"
#include "pack.h"
#include "row_passes.h"

namespace attngen {

// What the driver derives from a branch and its tile sizes.
template <class B>
struct Shape {
  typedef typename WordsOf<typename B::element>::type Words;
  typedef typename Words::word word;
  typedef typename B::tile tile;
  static constexpr int QT = tile::QT, KT = tile::KT, G = tile::G;
  static constexpr int PANEL = tile::QK_NV * W;  // keys in one packed panel
  static constexpr int DV_PAD = (B::DV + W - 1) / W * W;
  static_assert(KT % PANEL == 0, "a key tile is a whole number of panels");
  static constexpr long words(int channels) { return (channels + Words::per_word - 1) / Words::per_word; }
};

// One thread's memory, O(tile): carved from a single allocation, every part on its own cache line.
struct Arena {
  char* base;
  size_t used;
  template <class T>
  T* take(size_t n) {
    T* p = (T*)(base + used);
    used += (n * sizeof(T) + 63) / 64 * 64;
    return p;
  }
};

template <class B>
struct Scratch {
  typedef Shape<B> S;
  typename S::word *q[B::dots], *k[B::dots], *v;
  real *scores[B::dots], *visible, *acc, *v_sum, *ones;
  RowState<B, S::QT>* state;
  Ahead* ahead;  // the block after the one at hand

  explicit Scratch(Arena& arena) {
    for (int i = 0; i < B::dots; i++) {
      scores[i] = arena.take<real>(S::QT * S::KT);
      k[i] = arena.take<typename S::word>(S::KT * S::words(B::D(i)) + W);
      q[i] = arena.take<typename S::word>(S::G * S::QT * S::words(B::D(i)) + W);
    }
    v = arena.take<typename S::word>(S::KT * S::DV_PAD);
    acc = arena.take<real>((long)S::G * S::QT * S::DV_PAD);
    state = arena.take<RowState<B, S::QT>>(S::G);
    ahead = arena.take<Ahead>(1);
    visible = arena.take<real>(B::sums_values ? S::QT * S::KT : 0);
    v_sum = arena.take<real>(B::sums_values ? (long)S::G * S::QT * S::DV_PAD : 0);
    ones = arena.take<real>(S::QT);
  }
};

// Scores of one tile for every dot: each panel of keys against `rows` rows, from row `first` of the group on.
template <class B, int I = 0>
static inline void score_product(const Scratch<B>& scratch, int first, int rows, const TileKeys& t) {
  typedef Shape<B> S;
  constexpr long DW = S::words(B::D(I));
  const typename S::word* q = scratch.q[I] + first * DW;
  for (int j = t.begin; j < t.end; j += S::PANEL)
    panel_product<typename S::Words, S::tile::QK_MR, S::tile::QK_NV, false>(
        q, DW, scratch.k[I] + j * DW, scratch.scores[I] + j, S::KT, nullptr, DW, rows,
        [&] { go_on(*scratch.ahead); });
  if constexpr (I + 1 < B::dots) score_product<B, I + 1>(scratch, first, rows, t);
}

// acc = acc * factor + P V, panel of columns by panel of columns.
template <class B>
static inline void value_product(const Scratch<B>& scratch, const real* weights, real* acc, const real* factor,
                                 int rows, const TileKeys& t) {
  typedef Shape<B> S;
  typedef Panels<S::DV_PAD / W, S::tile::PV_NV> P;
  typedef typename S::Words Words;
  const typename S::word* p = (const typename S::word*)weights + t.begin / Words::per_word;
  const long steps = (t.end - t.begin) / Words::per_word;
  long column = 0;
  for (int i = 0; i < P::count; i++) {
    const int width = (i < P::wide_count ? P::wide : P::wide - 1) * W;
    const typename S::word* v = scratch.v + S::KT / Words::per_word * column + t.begin / Words::per_word * width;
    if (i < P::wide_count)
      panel_product<Words, S::tile::PV_MR, P::wide, true>(p, S::KT, v, acc + column, S::DV_PAD, factor, steps, rows,
                                                          [&] { go_on(*scratch.ahead); });
    else if constexpr (P::wide > 1)
      panel_product<Words, S::tile::PV_MR, P::wide - 1, true>(p, S::KT, v, acc + column, S::DV_PAD, factor, steps,
                                                              rows, [&] { go_on(*scratch.ahead); });
    column += width;
  }
}

// The same when a value of the block is not finite: 0 * inf must not turn an absent key into NaN.
template <class B, class Words = typename Shape<B>::Words, class R>
static __attribute__((noinline)) void careful_value_product(const R& v, const real* weights, real* acc,
                                                            const real* factor, int rows, const TileKeys& t) {
  typedef Shape<B> S;
  for (int r = 0; r < rows; r++) {
    real* to = acc + (long)r * S::DV_PAD;
    for (int d = 0; d < B::DV; d++) to[d] *= factor[r];
    for (int j = t.begin; j < t.end && j < t.present; j++) {
      real p;
      if constexpr (Words::per_word == 2)
        p = widen(((const bf16*)(weights + (long)r * S::KT))[j]);
      else
        p = weights[(long)r * S::KT + j];
      if (p != 0)
        for (int d = 0; d < B::DV; d++) to[d] = fma(p, widen(v.at(t.first + j, d)), to[d]);
    }
  }
}

// The sum of the values where every row sees every key: one sum for all rows.
template <class B, class R>
static __attribute__((noinline)) void add_value_sum(const R& v, real* sum, int rows, const TileKeys& t) {
  typedef Shape<B> S;
  real total[S::DV_PAD] = {};
  for (int j = t.begin; j < t.end; j++)
    for (int d = 0; d < B::DV; d++) total[d] += widen(v.at(t.first + j, d));
  for (int r = 0; r < rows; r++)
    for (int d = 0; d < S::DV_PAD; d += W) store(sum + r * S::DV_PAD + d, load(sum + r * S::DV_PAD + d) + load(total + d));
}

// acc = acc * factor + P V, each band of rows with keys of its own.
template <int BAND, class B, class R>
ATTNGEN_INLINE void add_values(const Scratch<B>& scratch, const R& v, const real* weights, real* acc,
                               const real* factor, int rows, const TileKeys* bands, bool finite) {
  typedef Shape<B> S;
  for (int r = 0; r < rows; r += BAND) {
    const TileKeys& t = bands[r / BAND];
    const int some = rows - r < BAND ? rows - r : BAND;
    if (t.begin >= t.end) continue;
    if (__builtin_expect(finite, 1))
      value_product<B>(scratch, weights + (long)r * S::KT, acc + (long)r * S::DV_PAD, factor + r, some, t);
    else
      careful_value_product<B>(v, weights + (long)r * S::KT, acc + (long)r * S::DV_PAD, factor + r, some, t);
  }
}

// Rows that share their keys in a tile that not all rows see: at the border of a window each sees a little more or less.
template <bool PARTIAL, class B, class KS>
constexpr int BAND = PARTIAL && KS::by_rows ? Shape<B>::tile::PV_MR : Shape<B>::QT;

// One query tile meets one packed key tile; `bands` has the keys that every BAND rows of it see.
template <bool PARTIAL, class B, class KS, class R>
static __attribute__((noinline)) void tile_step(const Scratch<B>& scratch, int g, int rows, const TileKeys& t,
                                                const TileKeys* bands, bool finite, const R& v) {
  typedef Shape<B> S;
  constexpr int N = BAND<PARTIAL, B, KS>;
  RowState<B, S::QT>& state = scratch.state[g];
  score_product<B>(scratch, g * S::QT, rows, t);
  if constexpr (B::anchored) anchor_pass<PARTIAL, B, KS, S::QT, S::KT, N>(state, rows, scratch.scores, bands);
  if (!weight_pass<PARTIAL, B, KS, typename S::Words, S::QT, S::KT, N>(state, rows, scratch.scores, bands,
                                                                       scratch.visible))
    return;

  add_values<N>(scratch, v, scratch.scores[0], scratch.acc + (long)g * S::QT * S::DV_PAD,
                B::anchored ? state.factor : scratch.ones, rows, bands, finite);
  if constexpr (B::sums_values) {
    real* sum = scratch.v_sum + (long)g * S::QT * S::DV_PAD;
    if constexpr (!PARTIAL && KS::score_trivial)
      add_value_sum<B>(v, sum, rows, t);
    else
      add_values<N>(scratch, v, scratch.visible, sum, scratch.ones, rows, bands, finite);
  }
}

}  // namespace attngen
