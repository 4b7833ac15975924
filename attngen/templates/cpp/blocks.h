// Which blocks of keys the queries of a task visit, and in which order. Blocks lie on a fixed grid of KT keys and each is
// visited once, so neither the group nor the thread count has any influence on the order of a row's sums.
#pragma once
#include "tile.h"

namespace attngen {

// Queries [begin, end) of one head, or of `heads` of them from h on that share their keys and values.
struct QueryTile {
  int b, h;
  long begin, end;
  int heads = 1;
  bool settled = false;  // by shapes and values alone: the number of threads has no part in it
  int rows() const { return (int)(end - begin); }
  // The g-th tile within this group, `size` rows or a head; without rows once the group has ended.
  QueryTile part(int g, int size) const {
    if (heads > 1) return {b, h + g, begin, g < heads ? end : begin};
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
  for (int i = 0; i < q.heads; i++)
    KS::segments(args, q.b, q.h + i, q.begin, q.end, [&](long begin, long end) {
      begin = begin > k_begin ? begin : k_begin;
      end = end < k_end ? end : k_end;
      if (begin >= end) return;
      hull.begin = begin < hull.begin ? begin : hull.begin;
      hull.end = end > hull.end ? end : hull.end;
    });
  return hull;
}

// The index-th of `count` equal parts of the blocks that a task visits.
struct Slice {
  long index, count;
};
constexpr Slice WHOLE = {0, 1};

// The whole panels of the block that hold an interval of keys.
static inline void cover(TileKeys& t, const Interval& keys, int panel) {
  t.begin = (int)(keys.begin - t.first) / panel * panel;
  t.end = ((int)(keys.end - t.first) + panel - 1) / panel * panel;
}

// Calls visit(first, last, hull) for each block [first, last) that holds a visible key, in ascending order or in
// descending order; `hull` holds the visible ones.
template <class KS, int KT, bool DESCENDING, class Args, class F>
static inline void visit_blocks(const Args& args, const QueryTile& q, const Slice& slice, F&& visit) {
  const long length = KS::length(args, q.b, q.h);
  auto visit_block = [&](long block) {
    const long first = block * KT, last = first + KT < length ? first + KT : length;
    const Interval hull = visible_hull<KS>(args, q, first, last);
    if (hull.begin < hull.end) visit(first, last, hull);
  };
  if (DESCENDING || q.heads > 1 || slice.count > 1) {
    const Interval seen = visible_hull<KS>(args, q, 0, length);
    if (seen.begin >= seen.end) return;
    const long low = seen.begin / KT, blocks = (seen.end - 1) / KT + 1 - low;
    const long from = low + blocks * slice.index / slice.count, to = low + blocks * (slice.index + 1) / slice.count;
    for (long i = from; i < to; i++) visit_block(DESCENDING ? to - 1 - (i - from) : i);
  } else {
    long next = 0;
    KS::segments(args, q.b, q.h, q.begin, q.end, [&](long begin, long end) {
      end = end < length ? end : length;
      for (long block = begin / KT > next ? begin / KT : next; block * KT < end; block++) {
        visit_block(block);
        next = block + 1;
      }
    });
  }
}

// The tile with its first run of panels that all queries see.
template <class KS, class Args>
static TileKeys seen_by_all(const Args& args, const QueryTile& q, TileKeys t, int panel) {
  t.seen = t.seen_end = t.end;
  for (int j = t.begin; j < t.end && j + panel <= t.present; j += panel)
    if (KS::full(args, q.b, q.h, q.begin, q.end, t.first + j, t.first + j + panel)) {
      if (t.seen_end != j) t.seen = j;
      t.seen_end = j + panel;
    } else if (t.seen < t.end) {
      break;
    }
  return t;
}

// What each band of rows may see of a tile that not all rows see.
template <class B, class KS, class Args>
static void cut_bands(const Args& args, const QueryTile& q, const TileKeys& t, TileKeys* bands) {
  constexpr int N = BAND<true, B, KS>;
  for (long r = 0; r < q.rows(); r += N) {
    TileKeys& band = *bands++ = t;
    if (N >= q.rows()) continue;
    const long begin = q.begin + r, end = begin + N < q.end ? begin + N : q.end;
    cover(band, visible_hull<KS>(args, {q.b, q.h, begin, end}, t.first + t.begin, t.first + t.end), W);
    const auto within = [&](int j) { return j < band.begin ? band.begin : j > band.end ? band.end : j; };
    band.seen = within(t.seen), band.seen_end = within(t.seen_end);
  }
}

template <class B, class KS, int I = 0, class Args>
static void pack_all_keys(const Args& args, const QueryTile& q, const TileKeys& t, Scratch<B>& scratch) {
  typedef Shape<B> S;
  pack_keys<typename S::Words, typename B::element, B::D(I), S::tile::QK_NV>(KS::template k<I>(args, q.b, q.h), t.first,
                                                                             t.begin, t.end, t.present, scratch.k[I]);
  if constexpr (I + 1 < B::dots) pack_all_keys<B, KS, I + 1>(args, q, t, scratch);
}

}  // namespace attngen
