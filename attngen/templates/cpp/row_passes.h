// What happens to a tile of scores between the two matrix products, one row at a time: the score program, the mask,
// the row maximum (first pass), then weights and row mass (second pass). The tile stays in the L1 cache; weights
// overwrite scores.
#pragma once
#include "random.h"

namespace attngen {

constexpr double LN2 = 0.693147180559945309417, LOG2E = 1.44269504088896340736;

// The running state of the rows of one query tile.
//
// An anchor is -inf until a key is seen. With `affine_exp2` it is the row maximum of core(s) and weights are
// exp2(core * slope - offset), where offset = anchor * slope is rounded once and then used everywhere, so that its
// rounding error cancels between tiles and in the mass. Rows whose offset is huge (|offset| >= 2^20) subtract first.
template <class B, int QT>
struct RowState {
  static constexpr int ROOM = (QT + W - 1) / W * W;
  typename B::Row row[QT];
  real anchor[ROOM], offset[ROOM], slope[ROOM], factor[ROOM];
  vf mass[QT], count[QT];  // partial sums per lane
  double before[QT];       // of a scan: the sum of what was kept of the keys visited so far
};

constexpr real LARGEST = sizeof(real) == 4 ? (real)3.40282347e38 : (real)1.7976931348623157e308;
constexpr real HUGE_OFFSET = 1048576;
static inline bool is_huge(real offset) { return !(offset > -HUGE_OFFSET && offset < HUGE_OFFSET); }

// One tile: rows [0, rows) and keys first + [begin, end), of which those from `present` on do not exist. A tile with
// PARTIAL false is visible everywhere, one with PARTIAL true at least from `seen` to `seen_end`.
struct TileKeys {
  long first;
  int begin, end;
  int present;
  int seen = 0, seen_end = 0;
};

template <bool PARTIAL, class KS, class Row>
ATTNGEN_INLINE Keys keys_at(const Row& row, const TileKeys& t, int j) {
  Keys keys = {iota() + (integer)(t.first + j), t.first + j, W, lanes(true), t.first + t.begin, t.first + t.end};
  if constexpr (PARTIAL) {
    keys.count = t.present - j < W ? t.present - j : W;
    keys.live = first_lanes(keys.count);
    if constexpr (!KS::mask_trivial) keys.live = keys.live & KS::mask(row, keys);
  }
  return keys;
}

// core(s) of W keys; -inf where the key is absent.
template <bool PARTIAL, class B, class KS>
ATTNGEN_INLINE vf core_score(const typename B::Row& row, const Keys& keys, real* const* scores, long at) {
  vf s[B::dots];
  for (int i = 0; i < B::dots; i++) s[i] = load(scores[i] + at);
  vf core = s[0];
  if constexpr (!KS::score_trivial) core = KS::score(row, keys, s);
  // Products of finite numbers may overflow; differences from a maximum of infinity must not be NaN.
  if constexpr (B::passes > 0) core = raw_min(splat(LARGEST), core);
  if constexpr (PARTIAL) core = select(keys.live, core, splat(-INF));
  return core;
}

// The largest anchor of keys [begin, end) of a row; stores core(s).
template <bool PARTIAL, class B, class KS>
ATTNGEN_INLINE vf largest_anchor(const typename B::Row& row, real* const* scores, long at, const TileKeys& t, int begin,
                                 int end) {
  real* s = scores[0] + at;
  vf best = splat(-INF);
  if constexpr (!PARTIAL && KS::score_trivial && B::anchor_trivial) {
    vf more[4] = {best, best, best, best};
    int j = begin;
    for (; j + 4 * W <= end; j += 4 * W)
#pragma GCC unroll 4
      for (int u = 0; u < 4; u++) more[u] = raw_max(load(s + j + u * W), more[u]);
    for (; j < end; j += W) more[0] = raw_max(load(s + j), more[0]);
    return raw_max(raw_max(more[0], more[1]), raw_max(more[2], more[3]));
  }
  for (int j = begin; j < end; j += W) {
    Keys keys = keys_at<PARTIAL, KS>(row, t, j);
    vf core = core_score<PARTIAL, B, KS>(row, keys, scores, at + j);
    store(s + j, core);
    if constexpr (!B::anchor_trivial) core = select(vb(core == -INF), core, B::anchor(row, core));
    best = raw_max(core, best);
  }
  return best;
}

// Moves the anchors to what is larger: vector by vector of rows, since row by row each would wait for the one before.
template <class B, int QT>
static inline void move_anchors(RowState<B, QT>& state, int rows, const real* largest) {
  for (int r = 0; r < rows; r += W) {
    const vf old = load(state.anchor + r), before = load(state.offset + r), slope = load(state.slope + r);
    const vf now = raw_max(load(largest + r), old);
    store(state.anchor + r, now);
    if constexpr (B::affine_exp2) {
      const vf offset = select(vb(now == -INF), vf{}, fma(now, slope, splat((real)(B::adjust * LOG2E))));
      const vb tame = vb(offset > -HUGE_OFFSET) & vb(offset < HUGE_OFFSET) & vb(before > -HUGE_OFFSET) &
                      vb(before < HUGE_OFFSET);
      const vf step = select(tame, before - offset, (old - now) * slope);
      store(state.offset + r, offset);
      store(state.factor + r, select(vb(old == -INF), vf{}, exp2_nonpositive(step)));
    } else {
      for (int i = r; i < r + W && i < rows; i++)
        state.factor[i] = old[i - r] == -INF ? 0 : B::shift(old[i - r], now[i - r]);
    }
  }
}

// First pass of anchored normalizers: stores core(s), moves the anchor, and leaves in `factor` what the accumulator
// and the mass have to be multiplied with. Every BAND rows have keys of their own.
template <bool PARTIAL, class B, class KS, int QT, int KT, int BAND>
static inline void anchor_pass(RowState<B, QT>& state, int rows, real* const* scores, const TileKeys* bands) {
  real largest[RowState<B, QT>::ROOM];
  for (int r = 0; r < rows; r++) {
    const TileKeys& t = bands[r / BAND];
    const typename B::Row& row = state.row[r];
    real* s = scores[0] + (long)r * KT;
    const long at = (long)r * KT;
    vf best;
    if constexpr (PARTIAL) {
      best = largest_anchor<true, B, KS>(row, scores, at, t, t.begin, t.seen);
      best = raw_max(largest_anchor<false, B, KS>(row, scores, at, t, t.seen, t.seen_end), best);
      best = raw_max(largest_anchor<true, B, KS>(row, scores, at, t, t.seen_end, t.end), best);
    } else {
      best = largest_anchor<false, B, KS>(row, scores, at, t, t.begin, t.end);
    }
    largest[r] = reduce_max(best);
    // Products of finite numbers may overflow; inf - inf must not make the row NaN.
    if (__builtin_expect(largest[r] == INF, 0)) {
      for (int j = t.begin; j < t.end; j += W) store(s + j, raw_min(splat(LARGEST), load(s + j)));
      largest[r] = LARGEST;
    }
  }
  move_anchors<B>(state, rows, largest);
}

ATTNGEN_INLINE void store_weights(NumberWords, real* row, int j, vf p) { store(row + j, p); }
#if defined(ATTNGEN_BF16_DOT)
// Weights are half as wide as the scores that they overwrite, so writing never overtakes reading.
ATTNGEN_INLINE void store_weights(PairWords, real* row, int j, vf p) { store((bf16*)row + j, p); }
#endif

// For each lane, the sum of x over the keys of the vector that are visited before it.
template <bool DESCENDS>
ATTNGEN_INLINE vf sum_before(vf x) {
  x = shift_lanes<1>(DESCENDS ? reverse(x) : x);
  x += shift_lanes<1>(x);
  x += shift_lanes<2>(x);
  if constexpr (W > 4) x += shift_lanes<4>(x);
  if constexpr (W > 8) x += shift_lanes<8>(x);
  return DESCENDS ? reverse(x) : x;
}

constexpr real FADED = sizeof(real) == 4 ? -104 : -746;  // exp of anything below is 0

// Whether no key that is still to come has a weight in any of the rows.
template <class B, int QT>
static inline bool has_faded(const RowState<B, QT>& state, int rows) {
  for (int r = 0; r < rows; r++)
    if (!(state.before[r] < FADED)) return false;
  return true;
}

// Second pass (the only one without an anchor) over one row: weights, row mass, count of keys. With `visible`, 0 / 1
// weights for the sum of the visible values are stored there. Tells which lanes had a weight.
template <bool PARTIAL, bool HUGE, class B, class KS, class Words, int QT, int KT>
ATTNGEN_INLINE vb weigh_row(RowState<B, QT>& state, int r, real* const* scores, const TileKeys& t, real* visible) {
  const typename B::Row row = state.row[r];  // a copy: stores to the tile cannot alias it
  RandomBlock random;
  real* s = scores[0] + (long)r * KT;
  vf mass = {}, count = {};
  const real anchor = state.anchor[r] == -INF ? 0 : state.anchor[r];
  const vf slope = splat(state.slope[r]), offset = splat(state.offset[r]);
  vb weighs = {};
  double carried = state.before[r];  // sums of thousands of terms, of which differences from 0 matter
  for (int i = t.begin; i < t.end; i += W) {
    const int j = B::descends ? t.begin + t.end - W - i : i;
    vf core, p, before = {};
    Keys keys;
    if constexpr (!B::anchored || KS::weighted) keys = keys_at<PARTIAL, KS>(row, t, j);
    keys.random = &random;
    if constexpr (B::anchored)
      core = load(s + j);
    else
      core = core_score<PARTIAL, B, KS>(row, keys, scores, (long)r * KT + j);
    const vb live = vb(core != -INF);  // masked, or absent because the score program says so
    if constexpr (B::scans) {
      const vf kept = select(live, B::keep(row, core), vf{});
      before = (real)carried + sum_before<B::descends>(kept);
      carried += (double)reduce_add(kept);
    }
    if constexpr (B::affine_exp2) {
      vf x = HUGE ? (core - anchor) * slope - (real)(B::adjust * LOG2E) : fma(core, slope, -offset);
      p = exp2_nonpositive(x);
      mass += p;
    } else {
      if (B::scans && all(vb(before < FADED)))
        p = vf{};
      else
        p = select(live, B::phi(row, core, anchor, before), vf{});
      if constexpr (B::has_mass) mass += B::psi_is_phi ? p : select(live, B::psi(row, core, anchor), vf{});
    }
    if constexpr (B::counts) count += select(live, splat((real)1), vf{});
    if constexpr (B::sums_values) store_weights(Words(), visible + (long)r * KT, j, select(live, splat((real)1), vf{}));
    if constexpr (KS::weighted) p = select(vb(p == 0), p, p * KS::weight(row, keys));
    if constexpr (B::sparse) weighs |= vb(p != 0);
    // Words are narrower than scores: backwards they would lie over scores that are still to be read.
    if constexpr (B::descends)
      store(s + j, p);
    else
      store_weights(Words(), s, j, p);
  }
  if constexpr (B::descends)
    for (int i = t.begin; i < t.end; i += W) store_weights(Words(), s, i, load(s + i));
  if constexpr (B::has_mass)
    state.mass[r] = B::anchored ? state.mass[r] * state.factor[r] + mass : state.mass[r] + mass;
  if constexpr (B::counts) state.count[r] += count;
  if constexpr (B::scans) state.before[r] = carried;
  return weighs;
}

// Whether some key of the tile has a weight in some row; true unless weights of 0 are common.
template <bool PARTIAL, class B, class KS, class Words, int QT, int KT, int BAND>
static inline bool weight_pass(RowState<B, QT>& state, int rows, real* const* scores, const TileKeys* bands,
                               real* visible) {
  vb weighs = {};
  for (int r = 0; r < rows; r++) {
    const TileKeys& t = bands[r / BAND];
    if constexpr (B::affine_exp2)
      if (__builtin_expect(is_huge(state.offset[r]), 0)) {
        weighs |= weigh_row<PARTIAL, true, B, KS, Words, QT, KT>(state, r, scores, t, visible);
        continue;
      }
    weighs |= weigh_row<PARTIAL, false, B, KS, Words, QT, KT>(state, r, scores, t, visible);
  }
  return !B::sparse || any(weighs);
}

}  // namespace attngen
