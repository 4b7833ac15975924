// Strips: the tasks of the backward, with sums of their own, and how these reach the totals.
#pragma once
#include "backward_tile.h"

namespace attngen {

template <int KEYSETS>
struct Strip {
  int b, h;
  long begin, end;          // queries
  Interval keys[KEYSETS];   // whole blocks
};

constexpr long MOST_STRIPS = 16, WANTED_STRIPS = 64;

template <class KS, class Args>
static inline void visited_blocks(const Args& args, const QueryTile& q, int key_tile, Interval& seen, long& count) {
  const long length = KS::length(args, q.b, q.h);
  long next = 0;
  KS::segments(args, q.b, q.h, q.begin, q.end, [&](long begin, long end) {
    end = end < length ? end : length;
    if (begin >= end) return;
    const long from = begin / key_tile > next ? begin / key_tile : next, to = (end + key_tile - 1) / key_tile;
    if (from >= to) return;
    count += to - from;
    next = to;
    seen.begin = from * key_tile < seen.begin ? from * key_tile : seen.begin;
    seen.end = to * key_tile > seen.end ? to * key_tile : seen.end;
  });
}

// Cuts every head into strips of about equal work.
template <class G, class Args, class F>
static void cut_strips(const Args& args, F&& emit) {
  typedef Shape<typename G::branch> S;
  const Call& call = args.call;
  const long rows = (long)S::G * S::QT, groups = (call.queries + rows - 1) / rows, heads = call.batch * call.heads;
  if (heads == 0 || groups == 0) return;
  long strips = (WANTED_STRIPS + heads - 1) / heads;
  strips = strips > MOST_STRIPS ? MOST_STRIPS : strips;
  strips = strips > groups ? groups : strips;
  for (long bh = 0; bh < heads; bh++) {
    const int b = (int)(bh / call.heads), h = (int)(bh % call.heads);
    auto group = [&](long i) {
      const long begin = i * rows, end = begin + rows;
      return QueryTile{b, h, begin, end < call.queries ? end : (long)call.queries};
    };
    auto measure = [&](long i, Strip<G::keysets>& strip) {
      long count = 0;
      G::for_each_keyset([&](auto keyset, auto, auto index) {
        visited_blocks<decltype(keyset)>(args, group(i), S::KT, strip.keys[index.value], count);
      });
      return count;
    };
    long total = 0, done = 0;
    Strip<G::keysets> ignored;
    if (strips > 1)
      for (long i = 0; i < groups; i++) total += measure(i, ignored) + 1;
    Strip<G::keysets> strip;
    long made = 0, first = 0;
    for (int i = 0; i < G::keysets; i++) strip.keys[i] = {INT64_MAX, 0};
    for (long i = 0; i < groups; i++) {
      done += measure(i, strip) + 1;
      if (i + 1 < groups && (strips == 1 || done * strips < total * (made + 1))) continue;
      strip.b = b, strip.h = h, strip.begin = group(first).begin, strip.end = group(i).end;
      emit(strip);
      first = i + 1, made++;
      for (int n = 0; n < G::keysets; n++) strip.keys[n] = {INT64_MAX, 0};
    }
  }
}

// Elements of a copy that a strip can touch.
static inline Interval touched(const Target& target, long begin, long end) {
  if (target.inner > 0) return {begin * target.inner, end * target.inner};
  return {0, target.count};
}

template <class R>
static inline void add_rows(const R& total, long first, const real* rows, long count, int columns, int pad) {
  for (long i = 0; i < count; i++) {
    if (!exists(total, first + i)) continue;
    real* to = &total.at(first + i, 0);  // channels of a total lie side by side
    for (int d = 0; d < columns; d += W)
      store_first(to + d, load_first((const real*)to + d, columns - d) + load(rows + i * pad + d), columns - d);
  }
}

template <class G, int I = 0, class Args>
static void add_queries(const Args& args, const Strip<G::keysets>& strip, const Private<G>& own) {
  constexpr int D = G::branch::D(I);
  add_rows(G::template dq<I>(args, strip.b, strip.h), strip.begin, own.dq[I], strip.end - strip.begin, D,
           BackScratch<G>::pad(D));
  if constexpr (I + 1 < G::branch::dots) add_queries<G, I + 1>(args, strip, own);
}

template <class G, class KG, int I = 0, class Args>
static void add_keys(const Args& args, const Strip<G::keysets>& strip, const Interval& keys, real* const* dk) {
  constexpr int D = G::branch::D(I);
  add_rows(KG::template dk<I>(args, strip.b, strip.h), keys.begin, dk[I], keys.end - keys.begin, D,
           BackScratch<G>::pad(D));
  if constexpr (I + 1 < G::branch::dots) add_keys<G, KG, I + 1>(args, strip, keys, dk);
}

// Adds the sums of a strip to the totals.
template <class G, class Args>
static void add_to_totals(const Args& args, const Strip<G::keysets>& strip, const Private<G>& own) {
  typedef typename G::branch B;
  add_queries<G>(args, strip, own);
  G::for_each_keyset([&](auto keyset, auto gradient, auto index) {
    typedef decltype(keyset) KS;
    typedef decltype(gradient) KG;
    const long length = KS::length(args, strip.b, strip.h);
    Interval keys = strip.keys[index.value];
    keys.end = keys.end < length ? keys.end : length;
    if (keys.begin >= keys.end) return;
    add_keys<G, KG>(args, strip, keys, own.dk[index.value]);
    add_rows(KG::dv(args, strip.b, strip.h), keys.begin, own.dv[index.value], keys.end - keys.begin, B::DV,
             Shape<B>::DV_PAD);
  });
  for (int i = 0; i < G::targets; i++) {
    const Target& target = G::target(args, i);
    real* total = target.total + G::target_base(args, i, strip.b, strip.h);
    if (target.alone) {
      add_alone(total, own.copies[i][0]);
      total[1] += own.copies[i][1];
      continue;
    }
    const Interval part = touched(target, strip.begin, strip.end);
    // A condition may keep queries away from a tensor that has fewer rows than there are queries.
    for (long e = part.begin; e < part.end && e < target.count; e++) total[e] += own.copies[i][e];
  }
}

// Takes, and sets to zero, the sums of a strip; with `strip` null only measures, for any strip.
template <class G, class Args>
static Private<G> take_private(const Args& args, Arena& arena, const Strip<G::keysets>* strip, long most_rows,
                               const long* most_keys) {
  typedef typename G::branch B;
  Private<G> own;
  auto rows = [&](long most, long used, int pad) {
    real* p = arena.take<real>(most * pad + W);
    if (strip) __builtin_memset(p, 0, sizeof(real) * (used > 0 ? used : 0) * pad);
    return p;
  };
  for (int i = 0; i < B::dots; i++)
    own.dq[i] = rows(most_rows, strip ? strip->end - strip->begin : 0, BackScratch<G>::pad(B::D(i)));
  for (int n = 0; n < G::keysets; n++) {
    const long used = strip ? strip->keys[n].end - strip->keys[n].begin : 0;
    for (int i = 0; i < B::dots; i++) own.dk[n][i] = rows(most_keys[n], used, BackScratch<G>::pad(B::D(i)));
    own.dv[n] = rows(most_keys[n], used, Shape<B>::DV_PAD);
  }
  for (int i = 0; i < G::targets; i++) {
    const Target& target = G::target(args, i);
    real* copy = arena.take<real>(target.inner > 0 ? most_rows * target.inner : target.count);
    const Interval part = strip ? touched(target, strip->begin, strip->end) : Interval{0, 0};
    if (strip) __builtin_memset(copy, 0, sizeof(real) * (part.end - part.begin));
    own.copies[i] = copy - part.begin;
  }
  return own;
}

}  // namespace attngen
