// Few queries of few heads are few tasks: their keys are cut into slices, each slice is summed up by a task of its own,
// and the sums of a row are merged in the order of its slices. How many slices there are follows from shapes alone.
#pragma once
#include "few_rows.h"

namespace attngen {

constexpr long WANTED_TASKS = 64, LEAST_KEYS = 512;  // of a slice

// How the rows of a call are divided: heads that share their keys, and slices of those.
struct Division {
  long heads, slices;
};

template <class T>
static inline bool same_tokens(const Rows<T>& a, const Rows<T>& b) { return a.data == b.data; }
template <class T, class Index, int PAGE>
static inline bool same_tokens(const PagedRows<T, Index, PAGE>& a, const PagedRows<T, Index, PAGE>& b) {
  return a.data == b.data && a.table == b.table;
}
template <class T, class Order>
static inline bool same_tokens(const BoxRows<T, Order>& a, const BoxRows<T, Order>& b) { return a.data == b.data; }

template <class B, class KS, int I = 0, class Args>
static inline bool same_keys(const Args& args, int h, int g) {
  if (!same_tokens(KS::template k<I>(args, 0, h), KS::template k<I>(args, 0, g))) return false;
  if constexpr (I + 1 < B::dots) return same_keys<B, KS, I + 1>(args, h, g);
  return same_tokens(KS::v(args, 0, h), KS::v(args, 0, g));
}

// The most consecutive heads, a divisor of all, that read the same keys and values.
template <class K, class Args>
static long heads_that_share(const Args& args) {
  const long heads = args.call.heads;
  for (long count = heads < K::G ? heads : K::G; count > 1; count--) {
    if (heads % count) continue;
    bool same = true;
    K::for_each_branch([&](auto branch) {
      typedef decltype(branch) B;
      B::for_each_keyset([&](auto keyset) {
        for (long h = 0; same && h < heads; h++)
          same = same_keys<B, decltype(keyset)>(args, (int)h, (int)(h / count * count));
      });
    });
    if (same) return count;
  }
  return 1;
}

// For groups of at most `most_rows` queries; `group_of` gives them by their number.
template <class K, class Args, class F>
static Division divide(const Args& args, long groups, long most_rows, F&& group_of) {
  const auto& call = args.call;
  if (most_rows > K::QT || groups * call.batch * call.heads == 0) return {1, 1};
  const long heads = heads_that_share<K>(args), tasks = groups * call.batch * call.heads / heads;
  if (tasks >= WANTED_TASKS) return {heads, 1};
  bool possible = true;  // what needs all keys of a row at once is not cut
  K::for_each_branch([&](auto branch) { possible &= decltype(branch)::passes == 0 && !decltype(branch)::scans; });
  if (!possible) return {1, 1};
  long keys = 0;
  K::for_each_branch([&](auto branch) {
    typedef decltype(branch) B;
    B::for_each_keyset([&](auto keyset) {
      typedef decltype(keyset) KS;
      for (int b = 0; b < call.batch; b++)
        for (long i = 0; i < groups; i++) {
          const Interval seen = visible_hull<KS>(args, group_of(i, b, 0, 1), 0, KS::length(args, b, 0));
          keys = seen.end - seen.begin > keys ? seen.end - seen.begin : keys;
        }
    });
  });
  const long wanted = (WANTED_TASKS + tasks - 1) / tasks, most = keys / LEAST_KEYS;
  const long slices = wanted < most ? wanted : most;
  return {heads, slices > 1 ? slices : 1};
}

// The sums of a slice, row by row: anchor, offset, mass, count, accumulator, sum of values.
template <class B>
constexpr long sums_of_row = 4 + Shape<B>::DV_PAD * (B::sums_values ? 2 : 1);

template <class B>
static void keep_sums(const Scratch<B>& scratch, const QueryTile& group, real* to) {
  typedef Shape<B> S;
  for (int g = 0; group.part(g, S::QT).rows() > 0; g++) {
    const RowState<B, S::QT>& state = scratch.state[g];
    for (int r = 0; r < group.part(g, S::QT).rows(); r++, to += sums_of_row<B>) {
      to[0] = state.anchor[r], to[1] = state.offset[r];
      to[2] = reduce_add(state.mass[r]), to[3] = reduce_add(state.count[r]);
      const long at = (g * S::QT + r) * (long)S::DV_PAD;
      __builtin_memcpy(to + 4, scratch.acc + at, sizeof(real) * S::DV_PAD);
      if constexpr (B::sums_values)
        __builtin_memcpy(to + 4 + S::DV_PAD, scratch.v_sum + at, sizeof(real) * S::DV_PAD);
    }
  }
}

// What sums at one anchor are worth at a later one.
template <class B>
static inline real worth(const RowState<B, Shape<B>::QT>& state, int r, real anchor, real offset, real now, real at) {
  if (!B::anchored || anchor == now) return 1;
  if (anchor == -INF) return 0;
  if constexpr (B::affine_exp2) {
    const real step = is_huge(offset) || is_huge(at) ? (anchor - now) * state.slope[r] : offset - at;
    return lane0(exp2_nonpositive(splat(step)));
  } else {
    return B::shift(anchor, now);
  }
}

template <class B>
static void merge_sums(const Scratch<B>& scratch, const QueryTile& group, const real* from) {
  typedef Shape<B> S;
  for (int g = 0; group.part(g, S::QT).rows() > 0; g++) {
    RowState<B, S::QT>& state = scratch.state[g];
    for (int r = 0; r < group.part(g, S::QT).rows(); r++, from += sums_of_row<B>) {
      const bool later = from[0] > state.anchor[r];
      const real anchor = later ? from[0] : state.anchor[r], offset = later ? from[1] : state.offset[r];
      const real mine = worth<B>(state, r, state.anchor[r], state.offset[r], anchor, offset);
      const real its = worth<B>(state, r, from[0], from[1], anchor, offset);
      state.anchor[r] = anchor, state.offset[r] = offset;
      state.mass[r] = state.mass[r] * mine;
      state.mass[r][0] += from[2] * its;
      state.count[r][0] += from[3];
      const long at = (g * S::QT + r) * (long)S::DV_PAD;
      for (int d = 0; d < S::DV_PAD; d += W) {
        store(scratch.acc + at + d, load(scratch.acc + at + d) * mine + load(from + 4 + d) * its);
        if constexpr (B::sums_values)
          store(scratch.v_sum + at + d, load(scratch.v_sum + at + d) + load(from + 4 + S::DV_PAD + d));
      }
    }
  }
}

}  // namespace attngen
