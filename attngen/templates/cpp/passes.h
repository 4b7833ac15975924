// The passes over the keys that come before the last one, for a normalizer that needs numbers of the whole row first.
//
// The scores of a query tile, or of as many of its rows as fit, are computed once and kept; a pass is then a loop over
// the kept scores of one row, which starts from the exact maximum and needs no running state. Nothing here depends on
// which rows are kept together.
#pragma once
#include "blocks.h"
#include "mathlib.h"

namespace attngen {

// One thread's scores. The memory follows what the rows see: a window needs little, whatever the length is.
struct Kept {
  real* scores;
  long capacity;
  bool failed;

  bool reserve(long n) {
    if (n > capacity) {
      __builtin_free(scores);
      scores = (real*)__builtin_malloc(n * sizeof(real));
      capacity = scores ? n : 0;
      failed |= !scores;
    }
    return capacity >= n;
  }
};

constexpr long MOST_KEPT = 1 << 20;  // numbers, as long as that leaves enough rows to fill the register tiles
constexpr int KEPT_STEP = 4 * W;          // kept rows are whole steps, so that four sums run side by side

// Calls f(keys of a tile, whether all of them are visible) for each tile of keys that the queries visit.
template <class B, class KS, class Args, class F>
static inline void visit_key_tiles(const Args& args, const QueryTile& q, F&& f) {
  typedef Shape<B> S;
  visit_blocks<KS, S::KT, false>(args, q, WHOLE, [&](long first, long last, const Interval& hull) {
    TileKeys t = {first, 0, 0, (int)(last - first)};
    cover(t, hull, S::PANEL);
    f(t, t.end <= t.present && KS::full(args, q.b, q.h, q.begin, q.end, first + t.begin, first + t.end));
  });
}

template <bool PARTIAL, class B, class KS>
static inline void keep_tile(const Scratch<B>& scratch, int g, int first, int rows, const TileKeys& t, real* to,
                             long width) {
  typedef Shape<B> S;
  for (int r = 0; r < rows; r++, to += width) {
    const typename B::Row& row = scratch.state[g].row[first + r];
    for (int j = t.begin; j < t.end; j += W) {
      const Keys keys = keys_at<PARTIAL, KS>(row, t, j);
      store(to + (j - t.begin), core_score<PARTIAL, B, KS>(row, keys, scratch.scores, (long)r * S::KT + j));
    }
  }
}

// The scores of rows [first, first + rows) of tile g, `width` numbers a row; -inf where a key is absent.
template <class B, class Args>
static void keep_scores(const Args& args, const QueryTile& q, Scratch<B>& scratch, int g, int first, int rows,
                        real* kept, long width) {
  typedef Shape<B> S;
  long at = 0;
  B::for_each_keyset([&](auto keyset) {
    typedef decltype(keyset) KS;
    visit_key_tiles<B, KS>(args, q, [&](const TileKeys& t, bool full) {
      pack_all_keys<B, KS>(args, q, t, scratch);
      score_product<B>(scratch, g * S::QT + first, rows, t);
      if (full)
        keep_tile<false, B, KS>(scratch, g, first, rows, t, kept + at, width);
      else
        keep_tile<true, B, KS>(scratch, g, first, rows, t, kept + at, width);
      at += t.end - t.begin;
    });
  });
  for (int r = 0; r < rows; r++)
    for (long j = at; j < width; j += W) store(kept + r * width + j, splat(-INF));
}

ATTNGEN_INLINE vf sum_of(const vf (&x)[4]) { return (x[0] + x[1]) + (x[2] + x[3]); }

// The maximum of the pass's anchor over the row; 0 where there is none.
template <class P, class Row>
static inline real row_maximum(const Row& row, const real* s, long n) {
  vf best[4] = {splat(-INF), splat(-INF), splat(-INF), splat(-INF)};
  for (long j = 0; j < n; j += KEPT_STEP)
#pragma GCC unroll 4
    for (int u = 0; u < 4; u++) {
      const vf x = load(s + j + u * W);
      best[u] = raw_max(P::anchor_trivial ? x : select(vb(x == -INF), x, P::anchor(row, x)), best[u]);
    }
  real now = reduce_max(raw_max(raw_max(best[0], best[1]), raw_max(best[2], best[3])));
  if constexpr (P::has_sink)
    if (P::sink(row) > -INF) {
      const real at_sink = P::sink_anchor(row);
      now = at_sink > now ? at_sink : now;
    }
  return now == -INF ? 0 : now > LARGEST ? LARGEST : now;
}

template <class P, class Row>
static inline real row_sum(const Row& row, const real* s, long n) {
  vf sum[4] = {};
  for (long j = 0; j < n; j += KEPT_STEP)
#pragma GCC unroll 4
    for (int u = 0; u < 4; u++) {
      const vf x = load(s + j + u * W);
      vf slope;
      sum[u] += select(vb(x == -INF), vf{}, P::term(row, x, slope));
    }
  real total = reduce_add(sum_of(sum));
  if constexpr (P::has_sink)
    if (P::sink(row) > -INF) total += P::sink_term(row);
  return total;
}

// The sum of the terms at row.pass_r and its derivative. With COMPACT, vectors without a positive term are dropped from
// the row for good, which is right below the root: terms only decrease.
struct Slope {
  real sum, slope;
};
template <bool COMPACT, class P, class Row>
static inline Slope sum_and_slope(const Row& row, real* s, long& n) {
  vf sum[4] = {}, slopes[4] = {};
  long kept = 0;
  for (long j = 0; j < n; j += KEPT_STEP)
#pragma GCC unroll 4
    for (int u = 0; u < 4; u++) {
      const vf x = load(s + j + u * W);
      const vb absent = vb(x == -INF);
      vf slope;
      const vf term = select(absent, vf{}, P::term(row, x, slope));
      sum[u] += term;
      slopes[u] += select(absent, vf{}, slope);
      if constexpr (COMPACT) {
        store(s + kept, x);
        kept += any(vb(term != 0)) ? W : 0;
      }
    }
  if constexpr (COMPACT)
    for (n = kept; n % KEPT_STEP != 0; n += W) store(s + n, splat(-INF));
  return {reduce_add(sum_of(sum)), reduce_add(sum_of(slopes))};
}

constexpr int MOST_ROUNDS = 100;
constexpr real ROUNDING = sizeof(real) == 4 ? (real)0x1p-22 : (real)0x1p-51;

// The r for which the terms sum to 1: Newton's method on the root of the sum of degree P::power, between bounds. Where
// that degree is at least 1, the root of the sum is convex, steps from the left never pass the solution, and the bounds
// are there for rounding alone; where it is less, steps that do not halve the interval in time are replaced.
template <class P, class Row>
static inline void find_root(Row& row, real* s, long n, real count) {
  constexpr bool CONVEX = P::power >= 1;
  real low = P::low(row, count), high = P::high(row, count), at = low, width = high - low;
  for (int round = 0; round < MOST_ROUNDS; round++) {
    row.pass_r[P::index] = at;
    const Slope f = CONVEX || round == 0 ? sum_and_slope<true, P>(row, s, n) : sum_and_slope<false, P>(row, s, n);
    (f.sum >= 1 ? low : high) = at;
    const real above = P::power == 1 ? f.sum - 1 : P::power * (f.sum - pow(f.sum, 1 - 1 / P::power));
    real next = f.slope < 0 ? at - above / f.slope : (low + high) / 2;
    if (!(f.sum == f.sum) || !(low < high)) break;  // not a number stays one in the last pass
    if (!(next >= low && next <= high)) next = CONVEX && next > high ? high : (low + high) / 2;
    if (!CONVEX && round % 3 == 2) {
      if (high - low > width / 2) next = (low + high) / 2;
      width = high - low;
    }
    const real step = next > at ? next - at : at - next;
    if (step <= ROUNDING * (at < 0 ? -at : at)) {
      row.pass_r[P::index] = next;
      break;
    }
    at = next;
  }
}

template <class P, class Row>
static inline void row_pass(Row& row, real* s, long n, real count) {
  row.pass_m[P::index] = row.pass_r[P::index] = 0;
  if constexpr (P::anchored) row.pass_m[P::index] = row_maximum<P>(row, s, n);
  if constexpr (P::root) {
    if (count > 0) find_root<P>(row, s, n, count);
  } else if constexpr (P::sums) {
    row.pass_r[P::index] = row_sum<P>(row, s, n);
  }
}

// Leaves in every row of tile g what the passes give.
template <class B, class Args>
static __attribute__((noinline)) void run_passes(const Args& args, const QueryTile& q, Scratch<B>& scratch, int g,
                                                 Kept& kept) {
  typedef Shape<B> S;
  long width = 0;
  B::for_each_keyset([&](auto keyset) {
    visit_key_tiles<B, decltype(keyset)>(args, q, [&](const TileKeys& t, bool) { width += t.end - t.begin; });
  });
  width = (width + KEPT_STEP - 1) / KEPT_STEP * KEPT_STEP;
  long most = MOST_KEPT / (width + 1);
  most = most < S::tile::QK_MR ? S::tile::QK_MR : most;
  most = most < q.rows() ? most : q.rows();
  if (!kept.reserve(most * width + KEPT_STEP)) return;
  for (int first = 0; first < q.rows(); first += (int)most) {
    const int rows = q.rows() - first < most ? q.rows() - first : (int)most;
    keep_scores<B>(args, q, scratch, g, first, rows, kept.scores, width);
    for (int r = 0; r < rows; r++) {
      real* s = kept.scores + r * width;
      vf present = {};
      for (long j = 0; j < width; j += W) present += select(vb(load(s + j) == -INF), vf{}, splat((real)1));
      const real count = reduce_add(present);
      typename B::Row& row = scratch.state[g].row[first + r];
      B::for_each_pass([&](auto pass) { row_pass<decltype(pass)>(row, s, width, count); });
    }
  }
}

}  // namespace attngen
