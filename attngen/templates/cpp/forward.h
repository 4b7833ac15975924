// The forward kernel of every streaming normalizer: O(N) memory, one pass over the keys.
//
//   task = (b, h, group of G query tiles)
//     for each branch                                  (one in everyday attention)
//       for each key set, for each block of KT keys
//         pack K and V of the block once
//         for each query tile of the group             S = Q K^T, row passes, acc = acc * factor + P V
//       finalize: O and LSE
//
// What an attention is comes in through generated structs; README.md in this folder lists what they must provide.
#pragma once
#include "threads.h"
#include "tile.h"

namespace attngen {

// First member of the generated Args.
struct Call {
  int64_t batch, heads, queries, threads;
};

// Queries [begin, end) of one head.
struct QueryTile {
  int b, h;
  long begin, end;
  int rows() const { return (int)(end - begin); }
  // The g-th tile of `size` rows within this group; without rows once the group has ended.
  QueryTile part(int g, int size) const {
    const long from = begin + (long)g * size, to = from + size;
    return {b, h, from < end ? from : end, to < end ? to : end};
  }
};

// The smallest interval that holds every key of [k_begin, k_end) that the tile may see; empty when none.
struct Interval {
  long begin, end;
};
template <class KS, class Args>
static inline Interval visible_hull(const Args& args, const QueryTile& q, long k_begin, long k_end) {
  Interval hull = {k_end, k_begin};
  KS::segments(args, q.b, q.h, q.begin, q.end, [&](long begin, long end) {
    begin = begin > k_begin ? begin : k_begin;
    end = end < k_end ? end : k_end;
    if (begin >= end) return;
    hull.begin = begin < hull.begin ? begin : hull.begin;
    hull.end = end > hull.end ? end : hull.end;
  });
  return hull;
}

// The whole panels of the block that hold an interval of keys.
static inline void cover(TileKeys& t, const Interval& keys, int panel) {
  t.begin = (int)(keys.begin - t.first) / panel * panel;
  t.end = ((int)(keys.end - t.first) + panel - 1) / panel * panel;
}

template <class B, int I = 0, class Args>
static void pack_all_queries(const Args& args, const QueryTile& q, Scratch<B>& scratch) {
  pack_queries<typename Shape<B>::Words, typename B::element, B::D(I)>(B::template q<I>(args, q.b, q.h), q.begin,
                                                                       q.rows(), scratch.q[I]);
  if constexpr (I + 1 < B::dots) pack_all_queries<B, I + 1>(args, q, scratch);
}

template <class B, class KS, int I = 0, class Args>
static void pack_all_keys(const Args& args, const QueryTile& q, const TileKeys& t, Scratch<B>& scratch) {
  typedef Shape<B> S;
  pack_keys<typename S::Words, typename B::element, B::D(I), S::tile::QK_NV>(KS::template k<I>(args, q.b, q.h), t.first,
                                                                             t.begin, t.end, t.present, scratch.k[I]);
  if constexpr (I + 1 < B::dots) pack_all_keys<B, KS, I + 1>(args, q, t, scratch);
}

// All keys of one key set. Blocks lie on a fixed grid of KT keys and each is visited once, so neither the group nor
// the thread count has any influence on the order of a row's sums.
template <class B, class KS, class Args>
static void run_keyset(const Args& args, const QueryTile& group, Scratch<B>& scratch) {
  typedef Shape<B> S;
  const long length = KS::length(args, group.b, group.h);
  const typename S::ElementRows v = KS::v(args, group.b, group.h);
  long next = 0;
  auto visit = [&](long block) {
    const long first = block * S::KT, last = first + S::KT < length ? first + S::KT : length;
    const Interval hull = visible_hull<KS>(args, group, first, last);
    if (hull.begin >= hull.end) return;
    TileKeys packed = {first, 0, 0, (int)(last - first)};
    cover(packed, hull, S::PANEL);
    pack_all_keys<B, KS>(args, group, packed, scratch);
    const uint64_t not_finite =
        pack_values<typename S::Words, typename B::element, B::DV, S::tile::PV_NV, S::KT, S::PANEL>(
            v, first, packed.begin, packed.end, packed.present, scratch.v);

    for (int g = 0; group.part(g, S::QT).rows() > 0; g++) {
      const QueryTile q = group.part(g, S::QT);
      const Interval seen = visible_hull<KS>(args, q, hull.begin, hull.end);
      if (seen.begin >= seen.end) continue;
      TileKeys t = packed;
      cover(t, seen, S::PANEL);
      // Only the tile's own panels count, so that the choice does not depend on what else the group needs.
      const int panels = (t.end - t.begin) / S::PANEL;
      const bool finite = (not_finite >> t.begin / S::PANEL & ~(uint64_t)0 >> (64 - panels)) == 0;
      if (t.end <= t.present && KS::full(args, q.b, q.h, q.begin, q.end, first + t.begin, first + t.end))
        tile_step<false, B, KS>(scratch, g, q.rows(), t, finite, v);
      else
        tile_step<true, B, KS>(scratch, g, q.rows(), t, finite, v);
    }
  };
  KS::segments(args, group.b, group.h, group.begin, group.end, [&](long begin, long end) {
    end = end < length ? end : length;
    for (long block = begin / S::KT > next ? begin / S::KT : next; block * S::KT < end; block++) {
      visit(block);
      next = block + 1;
    }
  });
}

template <class B>
static inline void init_row(RowState<B, Shape<B>::QT>& state, int r) {
  real anchor = -INF, offset = 0, mass = 0;
  if constexpr (B::affine_exp2) {
    const real slope = (real)(B::alpha(state.row[r]) * LOG2E);
    state.slope[r] =
        slope > (real)1e-30 ? slope : (real)1e-30;  // a scale of 0 must not turn an absent key's -inf into NaN
  }
  if constexpr (B::has_sink) {
    const real sink = B::sink(state.row[r]);
    if (sink > -INF) {
      if constexpr (B::affine_exp2) {
        anchor = sink * (real)LOG2E / state.slope[r];
        offset = anchor * state.slope[r] + (real)(B::adjust * LOG2E);
        mass = (real)__builtin_exp2(is_huge(offset) ? -B::adjust * LOG2E : sink * LOG2E - offset);
      } else {
        anchor = B::anchored ? B::anchor(state.row[r], sink) : 0;
        mass = B::psi(state.row[r], sink, anchor);
      }
    }
  }
  state.anchor[r] = anchor;
  state.offset[r] = offset;
  state.factor[r] = 1;
  state.mass[r] = vf{};
  state.mass[r][0] = mass;
  state.count[r] = vf{};
}

// What finalize sees of a row. `anchor` is in units of the score (its row maximum, say), 0 where no key was visible.
struct RowTotals {
  real anchor, mass, count;
};

template <class B>
static inline RowTotals row_totals(const RowState<B, Shape<B>::QT>& state, int r) {
  real anchor = B::anchored && state.anchor[r] > -INF ? state.anchor[r] : 0;
  if constexpr (B::affine_exp2)
    anchor = is_huge(state.offset[r]) ? anchor * B::alpha(state.row[r]) + B::adjust : (real)(state.offset[r] * LN2);
  return {anchor, reduce_add(state.mass[r]), reduce_add(state.count[r])};
}

template <class T>
static inline void store_row(Rows<T> out, long i, const real* x, int columns) {
  int d = 0;
  if (out.channel == 1)
    for (; d < columns; d += W) store_first(&out.at(i, d), load(x + d), columns - d);
  for (; d < columns; d++) out.at(i, d) = narrow<T>::of(x[d]);
}

// Divides, combines and writes the rows of one finished query tile. A single branch goes straight to the output;
// several add up (or lie side by side) in `total` first.
template <class K, class B, class Args>
static void finish_tile(const Args& args, const QueryTile& q, Scratch<B>& scratch, int g, real* total) {
  typedef Shape<B> S;
  RowState<B, S::QT>& state = scratch.state[g];
  const auto out = K::out(args, q.b, q.h);
  real finished[S::DV_PAD];
  for (int r = 0; r < q.rows(); r++) {
    const typename B::Row& row = state.row[r];
    const RowTotals totals = row_totals<B>(state, r);
    const bool empty = B::has_mass && totals.mass == 0;
    const real* acc = scratch.acc + (g * S::QT + r) * (long)S::DV_PAD;
    const real* v_sum = B::sums_values ? scratch.v_sum + (g * S::QT + r) * (long)S::DV_PAD : acc;
    for (int d = 0; d < S::DV_PAD; d += W) {
      vf x = empty ? vf{} : B::finalize(row, load(acc + d), totals, load(v_sum + d), d);
      store(finished + d, x);
    }
    if constexpr (K::branches == 1) {
      store_row(out, q.begin + r, finished, B::DV);
    } else {
      real* sum = total + (g * S::QT + r) * (long)K::DO + B::offset;
      for (int d = 0; d < B::DV; d++) sum[d] += finished[d];
    }
    if constexpr (K::wants_lse && B::gives_lse) {
      real lse = -INF;
      if (totals.mass != 0) {
        if constexpr (B::affine_exp2)
          lse = (real)((double)totals.anchor + __builtin_log((double)totals.mass));
        else
          lse = B::lse(row, totals);
      }
      K::lse(args, q.b, q.h).at(q.begin + r, 0) = lse;
    }
  }
}

template <class K, class B, class Args>
static __attribute__((noinline)) void run_branch(const Args& args, const QueryTile& group, Arena arena, real* total) {
  typedef Shape<B> S;
  static_assert(S::QT == K::QT && S::G == K::G, "branches of one kernel share their query tiles");
  Scratch<B> scratch(arena);
  pack_all_queries<B>(args, group, scratch);
  const typename B::Head head = B::head(args, group.b, group.h);
  for (int r = 0; r < group.rows(); r++) {
    RowState<B, S::QT>& state = scratch.state[r / S::QT];
    state.row[r % S::QT] = B::row(head, (int)(group.begin + r));
    init_row<B>(state, r % S::QT);
  }
  __builtin_memset(scratch.acc, 0, sizeof(real) * group.rows() * S::DV_PAD);
  if (B::sums_values) __builtin_memset(scratch.v_sum, 0, sizeof(real) * group.rows() * S::DV_PAD);
  for (int r = 0; r < S::QT; r++) scratch.ones[r] = 1;

  B::for_each_keyset([&](auto keyset) { run_keyset<B, decltype(keyset)>(args, group, scratch); });

  for (int g = 0; group.part(g, S::QT).rows() > 0; g++)
    finish_tile<K, B>(args, group.part(g, S::QT), scratch, g, total);
}

// Returns 0, or 1 when memory is exhausted.
template <class K, class Args>
static int run_forward(const Args& args) {
  const Call& call = args.call;
  const long heads = call.batch * call.heads, tiles = (call.queries + K::QT - 1) / K::QT;
  // Fewer tiles per group when there would be too few tasks to keep all threads busy until the end.
  long per_group = heads * tiles / (4 * (call.threads > 0 ? call.threads : 1));
  per_group = per_group < 1 ? 1 : per_group > K::G ? K::G : per_group;
  const long groups = (tiles + per_group - 1) / per_group;

  Arena size = {nullptr, 0};
  size_t largest = 0;
  K::for_each_branch([&](auto branch) {
    size.used = 0;
    Scratch<decltype(branch)> measured(size);
    largest = size.used > largest ? size.used : largest;
  });
  const size_t total_size = K::branches == 1 ? 0 : sizeof(real) * K::G * K::QT * K::DO + 64;

  int failed = 0;
  run_tasks(heads * groups, call.threads, [&](auto& team) {
    long task = team.next();
    if (task < 0) return;
    char* allocation = (char*)__builtin_malloc(largest + total_size + 64);
    char* memory = allocation + (64 - (size_t)allocation % 64) % 64;
    if (!allocation) {
      failed = 1;
      return;
    }
    real* total = (real*)(memory + largest);
    for (; task >= 0; task = team.next()) {
      // Longest first: with a causal mask the last queries see the most keys.
      const long i = task / heads, bh = task % heads, begin = (K::descending ? groups - 1 - i : i) * per_group * K::QT;
      const long end = begin + per_group * K::QT;
      const QueryTile group = {(int)(bh / call.heads), (int)(bh % call.heads), begin,
                               end < call.queries ? end : (long)call.queries};
      if (K::branches > 1) __builtin_memset(total, 0, sizeof(real) * group.rows() * K::DO);
      K::for_each_branch([&](auto branch) { run_branch<K, decltype(branch)>(args, group, Arena{memory, 0}, total); });
      if constexpr (K::branches > 1) {
        const auto out = K::out(args, group.b, group.h);
        for (int r = 0; r < group.rows(); r++) store_row(out, begin + r, total + r * (long)K::DO, K::DO);
      }
    }
    __builtin_free(allocation);
  });
  return failed;
}

}  // namespace attngen
