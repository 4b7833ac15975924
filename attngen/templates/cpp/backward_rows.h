// What happens between the products of the backward, one row at a time: the weights are computed anew, as the forward
// computed them, and every pair hands out its cotangents. P overwrites dP, and dS overwrites S.
#pragma once
#include "backward_tile.h"

namespace attngen {

// exp of the score relative to the anchor, with the very numbers of the forward.
template <bool HUGE, class B, class Row>
ATTNGEN_INLINE vf forward_weight(const Row& row, vf core) {
  if constexpr (HUGE)
    return exp2_nonpositive((raw_min(splat(LARGEST), core) - row.anchor) * splat(row.slope) - (real)(B::adjust * LOG2E));
  return exp2_nonpositive(fma(core, splat(row.slope), splat(-row.offset)));
}

// An absent key takes part in nothing, whatever its numbers are.
template <bool SURE>
ATTNGEN_INLINE vf kept(vb live, vf x) {
  if constexpr (SURE) return x;
  return select(live, x, vf{});
}

template <class B>
ATTNGEN_INLINE void load_dots(const real* const* scores, long at, vf* dots) {
  for (int i = 0; i < B::dots; i++) dots[i] = load(scores[i] + at);
}

// Number by number along the row, in the order of the visit; `step` gives what to leave in x[j] for what was there.
template <class G, class F>
static inline void along_visit(real* x, const TileKeys& t, F&& step) {
  for (int i = 0; i < t.end - t.begin; i++) {
    const int j = G::ascending ? t.begin + i : t.end - 1 - i;
    x[j] = (real)step((double)x[j]);
  }
}

// A scan needs the sum of what was kept before each key, and the cotangents of the sums after it, which are the row's
// total less those so far. The total comes from a pass of its own (FIRST), which adds the very same numbers in the same
// order: a total from anywhere else would leave its rounding error with every key far behind, where nothing is left.
template <bool FIRST, bool PARTIAL, class G, class KS, class KG>
static inline void scan_row(typename G::Row& row, const BackScratch<G>& scratch, int r, const TileKeys& t) {
  typedef typename G::branch B;
  constexpr int KT = Shape<B>::KT;
  real* before = scratch.before;
  real* dbefore = scratch.dbefore;
  vf dots[B::dots];
  for (int j = t.begin; j < t.end; j += W) {
    const Keys keys = keys_at<PARTIAL, KS>(row, t, j);
    load_dots<B>(scratch.scores, (long)r * KT + j, dots);
    store(before + j, KG::template keep<PARTIAL>(row, keys, dots));
  }
  along_visit<G>(before, t, [&](double kept) {
    const double so_far = row.before;
    row.before += kept;
    return so_far;
  });
  for (int j = t.begin; j < t.end; j += W) {
    const Keys keys = keys_at<PARTIAL, KS>(row, t, j);
    load_dots<B>(scratch.scores, (long)r * KT + j, dots);
    store(dbefore + j,
          KG::template before_share<PARTIAL>(row, keys, dots, load(scratch.dp + (long)r * KT + j), load(before + j)));
  }
  along_visit<G>(dbefore, t, [&](double share) {
    row.dbefore += FIRST ? share : -share;
    return row.dbefore;
  });
}

template <bool PARTIAL, class G, class KS, class KG>
static inline void scan_rows(const BackScratch<G>& scratch, int g, int rows, const TileKeys& t) {
  for (int r = 0; r < rows; r++)
    scan_row<true, PARTIAL, G, KS, KG>(scratch.rows[g * Shape<typename G::branch>::QT + r], scratch, r, t);
}

template <bool PARTIAL, bool HUGE, class G, class KS, class KG>
ATTNGEN_INLINE void pair_row(const typename G::Row& at_home, const BackScratch<G>& scratch, int r, const TileKeys& t,
                             real* const* copies) {
  typedef typename G::branch B;
  const typename G::Row row = at_home;  // a copy: stores to the tile cannot alias it
  RandomBlock random;
  constexpr int KT = Shape<B>::KT;
  typename KG::Sums sums = {};
  for (int j = t.begin; j < t.end; j += W) {
    const long at = (long)r * KT + j;
    Keys keys = keys_at<PARTIAL, KS>(row, t, j);
    keys.random = &random;
    vf dots[B::dots], ddots[B::dots], weight, before = {}, dbefore = {};
    load_dots<B>(scratch.scores, at, dots);
    if constexpr (G::scans) before = load(scratch.before + j), dbefore = load(scratch.dbefore + j);
    vb live = KG::template pair<PARTIAL, HUGE>(row, keys, dots, load(scratch.dp + at), before, dbefore, sums, copies,
                                               weight, ddots);
    typedef typename Shape<B>::Words Words;
    store_pairs(Words(), scratch.dp, nullptr, KT, r, j, weight);
    for (int i = 0; i < B::dots; i++) store_pairs(Words(), scratch.scores[i], scratch.ds[i], KT, r, j, ddots[i]);
    if constexpr (B::sums_values) store(scratch.visible + at, select(live, splat((real)1), vf{}));
  }
  KG::flush(row, sums, copies);
}

template <bool PARTIAL, class G, class KS, class KG>
static inline void pair_rows(const BackScratch<G>& scratch, int g, int rows, const TileKeys& t, real* const* copies) {
  typedef typename G::branch B;
  for (int r = 0; r < rows; r++) {
    typename G::Row& row = scratch.rows[g * Shape<B>::QT + r];
    if constexpr (G::scans) scan_row<false, PARTIAL, G, KS, KG>(row, scratch, r, t);
    if constexpr (B::affine_exp2)
      if (__builtin_expect(is_huge(row.offset), 0)) {
        pair_row<PARTIAL, true, G, KS, KG>(row, scratch, r, t, copies);
        continue;
      }
    pair_row<PARTIAL, false, G, KS, KG>(row, scratch, r, t, copies);
  }
}

// A pass before: sums over the keys of the row what its result is worth, and the slope where it is a root.
template <bool PARTIAL, int K, class G, class KS, class KG>
static inline void pass_rows(const BackScratch<G>& scratch, int g, int rows, const TileKeys& t, real* worth,
                             real* slope) {
  typedef typename G::branch B;
  constexpr int QT = Shape<B>::QT, KT = Shape<B>::KT;
  for (int r = 0; r < rows; r++) {
    const typename G::Row row = scratch.rows[g * QT + r];
    vf total = {}, slopes = {}, dots[B::dots];
    for (int j = t.begin; j < t.end; j += W) {
      const long at = (long)r * KT + j;
      const Keys keys = keys_at<PARTIAL, KS>(row, t, j);
      load_dots<B>(scratch.scores, at, dots);
      KG::template pass<PARTIAL, K>(row, keys, dots, load(scratch.dp + at), total, slopes);
    }
    worth[g * QT + r] += reduce_add(total);
    slope[g * QT + r] += reduce_add(slopes);
  }
}

}  // namespace attngen
