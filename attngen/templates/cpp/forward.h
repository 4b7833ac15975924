// The forward kernel of every normalizer: O(N) memory, one pass over the keys for most of them.
//
//   task = (b, h, group of G query tiles)
//     for each branch                                  (one in everyday attention)
//       for each query tile: the passes before the last, where the normalizer has some (passes.h)
//       for each key set, for each block of KT keys
//         pack K and V of the block once
//         for each query tile of the group             S = Q K^T, row passes, acc = acc * factor + P V
//       finalize: O and LSE
//
// With few queries the tiles of a group are heads that share their keys (few_rows.h), and slices of the keys are tasks
// of their own (slices.h).
//
// What an attention is comes in through generated structs; README.md in this folder lists what they must provide.
#pragma once
#include "passes.h"
#include "slices.h"
#include "threads.h"
#include "visible.h"

namespace attngen {

// First member of the generated Args.
struct Call {
  int64_t batch, heads, queries, threads;
};

template <class B, int I = 0, class Args>
static void pack_all_queries(const Args& args, const QueryTile& q, Scratch<B>& scratch, int g) {
  typedef Shape<B> S;
  pack_queries<typename S::Words, typename B::element, B::D(I)>(
      B::template q<I>(args, q.b, q.h), q.begin, q.rows(), scratch.q[I] + (long)g * S::QT * S::words(B::D(I)));
  if constexpr (I + 1 < B::dots) pack_all_queries<B, I + 1>(args, q, scratch, g);
}

// The block that most likely comes after keys [first, last), while `group` works on these.
template <class B, class KS, class Args>
static void look_ahead(const Args& args, const QueryTile& group, long first, long last, Scratch<B>& scratch) {
  typedef Shape<B> S;
  typedef typename S::tile T;
  const long length = KS::length(args, group.b, group.h);
  const long from = B::descends ? first - S::KT : last, to = from + S::KT < length ? from + S::KT : length;
  const bool more = from >= 0 && from < to;
  *scratch.ahead = {};
  if (!more) return;
  scratch.ahead->runs[0] = run_ahead(KS::template k<0>(args, group.b, group.h), from, to, B::D(0));
  scratch.ahead->runs[1] = run_ahead(KS::v(args, group.b, group.h), from, to, B::DV);
  constexpr long columns = Panels<S::DV_PAD / W, T::PV_NV>::count;
  const long rows = group.heads > 1 ? group.heads * group.rows() : group.rows();
  set_pace(*scratch.ahead, rows / T::QK_MR * (S::KT / S::PANEL) + rows / T::PV_MR * columns);
}

// All keys of one key set.
template <class B, class KS, class Args>
static void run_keyset(const Args& args, const QueryTile& group, Scratch<B>& scratch, const Slice& slice) {
  typedef Shape<B> S;
  if constexpr (reads_in_place<B>)
    if (group.settled && group.rows() <= FEW_ROWS && channels_lie_together<B, KS>(args, group))
      return run_keyset_in_place<B, KS>(args, group, scratch, slice);
  const auto v = KS::v(args, group.b, group.h);
  visit_blocks<KS, S::KT, B::descends>(args, group, slice, [&](long first, long last, const Interval& hull) {
    if constexpr (B::fades) {
      bool faded = true;
      for (int g = 0; group.part(g, S::QT).rows() > 0; g++)
        faded &= has_faded<B>(scratch.state[g], group.part(g, S::QT).rows());
      if (faded) return;
    }
    TileKeys packed = {first, 0, 0, (int)(last - first)};
    cover(packed, hull, S::PANEL);
    pack_all_keys<B, KS>(args, group, packed, scratch);
    const uint64_t not_finite =
        pack_values<typename S::Words, typename B::element, B::DV, S::tile::PV_NV, S::KT, S::PANEL>(
            v, first, packed.begin, packed.end, packed.present, scratch.v);

    look_ahead<B, KS>(args, group, first, last, scratch);
    for (int g = 0; group.part(g, S::QT).rows() > 0; g++) {
      const QueryTile q = group.part(g, S::QT);
      const Interval seen = visible_hull<KS>(args, q, hull.begin, hull.end);
      if (seen.begin >= seen.end || (B::fades && has_faded<B>(scratch.state[g], q.rows()))) continue;
      TileKeys t = packed;
      cover(t, seen, S::PANEL);
      // Only the tile's own panels count, so that the choice does not depend on what else the group needs.
      const int panels = (t.end - t.begin) / S::PANEL;
      const bool finite = (not_finite >> t.begin / S::PANEL & ~(uint64_t)0 >> (64 - panels)) == 0;
      if (t.end <= t.present && KS::full(args, q.b, q.h, q.begin, q.end, first + t.begin, first + t.end))
        tile_step<false, B, KS>(scratch, g, q.rows(), t, &t, finite, v);
      else {
        TileKeys bands[(S::QT - 1) / BAND<true, B, KS> + 1];
        cut_bands<B, KS>(args, q, seen_by_all<KS>(args, q, t, S::PANEL), bands);
        tile_step<true, B, KS>(scratch, g, q.rows(), t, bands, finite, v);
      }
    }
  });
}

// No key seen, no sink either.
template <class B>
static inline void clear_row(RowState<B, Shape<B>::QT>& state, int r) {
  state.anchor[r] = -INF;
  state.offset[r] = 0;
  state.mass[r] = vf{};
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
        anchor = B::anchored ? B::sink_anchor(state.row[r]) : 0;
        mass = B::sink_term(state.row[r], anchor);
      }
    }
  }
  state.anchor[r] = anchor;
  state.offset[r] = offset;
  state.factor[r] = 1;
  state.mass[r] = vf{};
  state.mass[r][0] = mass;
  state.count[r] = vf{};
  state.before[r] = 0;
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

// What the backward needs of a row, from its first column of this branch on; saved.py has the layout.
template <class B>
static __attribute__((noinline)) void save_row(const Scratch<B>& scratch, int g, int r, const RowTotals& totals,
                                               real* to) {
  typedef Shape<B> S;
  const RowState<B, S::QT>& state = scratch.state[g];
  const long at = (g * S::QT + r) * (long)S::DV_PAD;
  to += B::saved_offset;
  *to++ = state.anchor[r];
  *to++ = state.offset[r];
  *to++ = totals.mass;
  *to++ = totals.count;
  for (int k = 0; k < B::passes; k++) {
    *to++ = state.row[r].pass_m[k];
    *to++ = state.row[r].pass_r[k];
  }
  if constexpr (B::scans) *to++ = (real)state.before[r];
  if constexpr (B::saves_acc) {
    __builtin_memcpy(to, scratch.acc + at, sizeof(real) * B::DV);
    to += B::DV;
  }
  if constexpr (B::saves_vsum) __builtin_memcpy(to, scratch.v_sum + at, sizeof(real) * B::DV);
}

template <class R>
static inline void store_row(const R& out, long i, const real* x, int columns) {
  typedef typename R::element T;
  if (!exists(out, i)) return;
  T* row = &out.at(i, 0);
  int d = 0;
  if (out.channel == 1)
    for (; d < columns; d += W) store_first(row + d, load(x + d), columns - d);
  for (; d < columns; d++) row[d * out.channel] = narrow<T>::of(x[d]);
}

// Divides, combines and writes the rows of one finished query tile. A single branch goes straight to the output;
// several add up (or lie side by side) in `total` first.
template <class K, class B, class Args>
static void finish_tile(const Args& args, const QueryTile& q, Scratch<B>& scratch, int g, real* total) {
  typedef Shape<B> S;
  RowState<B, S::QT>& state = scratch.state[g];
  const auto out = K::out(args, q.b, q.h);
  const auto saved = K::saved(args, q.b, q.h);
  real finished[S::DV_PAD];
  for (int r = 0; r < q.rows(); r++) {
    if (!exists(out, q.begin + r)) continue;
    const typename B::Row& row = state.row[r];
    const RowTotals totals = row_totals<B>(state, r);
    if (__builtin_expect(saved.data != nullptr, 0)) save_row<B>(scratch, g, r, totals, &saved.at(q.begin + r, 0));
    const bool empty = B::drops_massless && totals.mass == 0;
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
      if (!empty) {
        if constexpr (B::plain_lse)
          lse = (real)((double)totals.anchor + __builtin_log((double)totals.mass));
        else
          lse = B::lse(row, totals);
      }
      K::lse(args, q.b, q.h).at(q.begin + r, 0) = lse;
    }
  }
}

// Queries, states and empty sums of a group.
template <class B, class Args>
static void start_group(const Args& args, const QueryTile& group, Scratch<B>& scratch) {
  typedef Shape<B> S;
  *scratch.ahead = {};
  for (int g = 0; group.part(g, S::QT).rows() > 0; g++) {
    const QueryTile q = group.part(g, S::QT);
    pack_all_queries<B>(args, q, scratch, g);
    const typename B::Head head = B::head(args, q.b, q.h);
    for (int r = 0; r < q.rows(); r++) {
      scratch.state[g].row[r] = B::row(head, (int)(q.begin + r));
      init_row<B>(scratch.state[g], r);
    }
    const long at = (long)g * S::QT * S::DV_PAD, size = sizeof(real) * q.rows() * S::DV_PAD;
    __builtin_memset(scratch.acc + at, 0, size);
    if (B::sums_values) __builtin_memset(scratch.v_sum + at, 0, size);
  }
  for (int r = 0; r < S::QT; r++) scratch.ones[r] = 1;
}

// One branch of a group. With several slices: slice `slice.index` into its own place in `sums`, or, where the index is
// their number, all of them from there.
template <class K, class B, class Args>
static __attribute__((noinline)) void run_branch(const Args& args, const QueryTile& group, Arena arena, real* total,
                                                 Kept& kept, const Slice& slice, real* sums, long sums_of_slice) {
  typedef Shape<B> S;
  static_assert(S::QT == K::QT && S::G == K::G, "branches of one kernel share their query tiles");
  Scratch<B> scratch(arena);
  start_group<B>(args, group, scratch);
  if (slice.index < slice.count) {
    if (slice.index > 0)  // the sink is a key of the first slice
      for (int g = 0; group.part(g, S::QT).rows() > 0; g++)
        for (int r = 0; r < S::QT; r++) clear_row<B>(scratch.state[g], r);
    if constexpr (B::passes > 0)
      for (int g = 0; group.part(g, S::QT).rows() > 0; g++) run_passes<B>(args, group.part(g, S::QT), scratch, g, kept);
    B::for_each_keyset([&](auto keyset) { run_keyset<B, decltype(keyset)>(args, group, scratch, slice); });
    if (slice.count > 1) return keep_sums<B>(scratch, group, sums + slice.index * sums_of_slice);
  } else {
    for (int g = 0; group.part(g, S::QT).rows() > 0; g++)
      for (int r = 0; r < S::QT; r++) clear_row<B>(scratch.state[g], r);
    for (long i = 0; i < slice.count; i++) merge_sums<B>(scratch, group, sums + i * sums_of_slice);
  }
  for (int g = 0; group.part(g, S::QT).rows() > 0; g++)
    finish_tile<K, B>(args, group.part(g, S::QT), scratch, g, total);
}

// Whether the last queries see far more keys than others do, as under a causal mask.
template <class K, class Args, class F>
static bool grows(const Args& args, long groups, F&& group_of) {
  long all = 0, last = 0;
  for (long i = 0; i < groups; i++) {
    last = 0;
    K::for_each_branch([&](auto branch) {
      decltype(branch)::for_each_keyset([&](auto keyset) {
        typedef decltype(keyset) KS;
        const QueryTile group = group_of(i, 0, 0, 1);
        const Interval seen = visible_hull<KS>(args, group, 0, KS::length(args, group.b, group.h));
        if (seen.begin < seen.end) last += seen.end - seen.begin;
      });
    });
    all += last;
  }
  return last * groups > all + all / 4;
}

// Returns 0, or 1 when memory is exhausted.
template <class K, class Args>
static int run_forward(const Args& args) {
  const Call& call = args.call;
  const long heads = call.batch * call.heads, tiles = (call.queries + K::QT - 1) / K::QT;
  if (heads == 0 || tiles == 0) return 0;  // nor do the tables have a row then
  // Fewer tiles per group when there would be too few tasks to keep all threads busy until the end.
  long per_group = heads * tiles / (4 * (call.threads > 0 ? call.threads : 1));
  per_group = per_group < 1 ? 1 : per_group > K::G ? K::G : per_group;
  // Of packed sequences: how many groups, the queries of the largest, where each begins and the last ends.
  const int32_t* table = K::units(args);
  const long groups = table ? table[0] : (tiles + per_group - 1) / per_group;
  const long most_rows = table ? table[1] : call.queries;
  auto group_of = [&](long i, int b, int h, long count) {
    const long begin = table ? table[2 + i] : i * per_group * K::QT, stop = begin + per_group * K::QT;
    const long end = table ? table[3 + i] : stop < call.queries ? stop : (long)call.queries;
    return QueryTile{b, h, begin, end, (int)count, table || tiles == 1};
  };
  const Division division = divide<K>(args, groups, most_rows, group_of);
  // Head by head, since the tasks of a head share its keys; unless that leaves the longest ones for last.
  const bool longest_first = K::masked && grows<K>(args, groups, group_of);

  Arena size = {nullptr, 0};
  size_t largest = 0;
  long sums_of_slice = 0;
  K::for_each_branch([&](auto branch) {
    size.used = 0;
    Scratch<decltype(branch)> measured(size);
    largest = size.used > largest ? size.used : largest;
    sums_of_slice += sums_of_row<decltype(branch)> * division.heads * most_rows;
  });
  const size_t total_size = K::branches == 1 ? 0 : sizeof(real) * K::G * K::QT * K::DO + 64;
  const long units = heads / division.heads * groups;
  real* sums = nullptr;
  long* done = nullptr;  // slices of each unit
  if (division.slices > 1) {
    sums = (real*)__builtin_malloc(sizeof(real) * units * division.slices * sums_of_slice);
    done = (long*)__builtin_calloc(units, sizeof(long));
    if (!sums || !done) {
      __builtin_free(sums);
      __builtin_free(done);
      return 1;
    }
  }

  int failed = 0;
  run_tasks(units * division.slices, call.threads, !longest_first, [&](auto& queue) {
    long task = queue.next();
    if (task < 0) return;
    char* allocation = (char*)__builtin_malloc(largest + total_size + 64);
    char* memory = allocation + (64 - (size_t)allocation % 64) % 64;
    if (!allocation) {
      failed = 1;
      return;
    }
    real* total = (real*)(memory + largest);
    Kept kept = {};
    auto run = [&](const QueryTile& group, const Slice& slice, real* own) {
      if (K::branches > 1) __builtin_memset(total, 0, sizeof(real) * K::G * K::QT * K::DO);
      K::for_each_branch([&](auto branch) {
        typedef decltype(branch) B;
        run_branch<K, B>(args, group, Arena{memory, 0}, total, kept, slice, own, sums_of_slice);
        own += sums_of_row<B> * division.heads * most_rows;
      });
    };
    for (; task >= 0; task = queue.next()) {
      const long unit = task / division.slices, many = heads / division.heads;
      const long i = longest_first ? groups - 1 - unit / many : unit % groups;
      const long bh = (longest_first ? unit % many : unit / groups) * division.heads;
      const QueryTile group = group_of(i, (int)(bh / call.heads), (int)(bh % call.heads), division.heads);
      real* own = sums + unit * division.slices * sums_of_slice;
      run(group, {task % division.slices, division.slices}, own);
      if (division.slices > 1) {
        // Whoever finishes the last slice merges them all, in their order.
        if (__atomic_add_fetch(&done[unit], 1, __ATOMIC_ACQ_REL) < division.slices) continue;
        run(group, {division.slices, division.slices}, own);
      }
      if constexpr (K::branches > 1)
        for (int g = 0; group.part(g, K::QT).rows() > 0; g++) {
          const QueryTile q = group.part(g, K::QT);
          const auto out = K::out(args, q.b, q.h);
          for (int r = 0; r < q.rows(); r++)
            store_row(out, q.begin + r, total + (g * K::QT + r) * (long)K::DO, K::DO);
        }
    }
    if (kept.failed) failed = 1;
    __builtin_free(kept.scores);
    __builtin_free(allocation);
  });
  __builtin_free(sums);
  __builtin_free(done);
  return failed;
}

}  // namespace attngen
