// The backward kernel of every normalizer: O(N) memory.
//
//   strip = (b, h, some groups of query tiles)       a task, with sums of its own
//     for each group, for each key set, for each block of KT keys
//       for each query tile of the group              S, dP; dV, dK, dQ
//     in the order of the strips: add the sums to the totals
//
// Strips depend on shapes and masks, never on the number of threads, and totals take them in order: the same bits on
// any machine load. A thread holds the sums of one strip: the rows of its queries, and as many keys as a strip sees.
#pragma once
#include "backward_group.h"

namespace attngen {

template <class K, class G, class Args>
static void run_strip(const Args& args, const Strip<G::keysets>& strip, BackScratch<G>& scratch, const Private<G>& own) {
  typedef typename G::branch B;
  typedef Shape<B> S;
  const QueryTile all = {strip.b, strip.h, strip.begin, strip.end};
  for (int i = 0; all.part(i, S::G * S::QT).rows() > 0; i++) {
    const QueryTile group = all.part(i, S::G * S::QT);
    prepare_group<K, G>(args, group, scratch, own.copies);
    run_pass<G::passes - 1, G>(args, group, scratch);
    if constexpr (G::scans) run_scan<G>(args, group, scratch);
    G::for_each_keyset([&](auto keyset, auto gradient, auto index) {
      typedef decltype(keyset) KS;
      typedef decltype(gradient) KG;
      constexpr int n = decltype(index)::value;
      const long first_key = strip.keys[n].begin;
      visit_tiles<G, KS, true>(args, group, scratch, [&](int g, const QueryTile& q, const TileKeys& t, bool partial, bool finite) {
        if (partial)
          pair_rows<true, G, KS, KG>(scratch, g, q.rows(), t, own.copies);
        else
          pair_rows<false, G, KS, KG>(scratch, g, q.rows(), t, own.copies);
        value_sums<G>(scratch, own, q, g, n, first_key, t, partial || !KS::score_trivial);
        key_and_query_sums<G, KS>(args, scratch, own, all, q, g, n, first_key, t, finite);
      });
    });
  }
}

template <class K, class G, class Args>
static int run_gradient(const Args& args) {
  typedef Strip<G::keysets> Task;
  long count = 0, most_rows = 0, most_keys[G::keysets] = {};
  cut_strips<G>(args, [&](const Task& strip) {
    count++;
    most_rows = strip.end - strip.begin > most_rows ? strip.end - strip.begin : most_rows;
    for (int i = 0; i < G::keysets; i++) {
      const long keys = strip.keys[i].end - strip.keys[i].begin;
      most_keys[i] = keys > most_keys[i] ? keys : most_keys[i];
    }
  });
  if (count == 0) return 0;
  Task* strips = (Task*)__builtin_malloc(count * sizeof(Task));
  if (!strips) return 1;
  long made = 0;
  cut_strips<G>(args, [&](const Task& strip) { strips[made++] = strip; });

  Arena size = {nullptr, 0};
  BackScratch<G> measured(size);
  take_private<G>(args, size, nullptr, most_rows, most_keys);
  int failed = 0;
  long turn = 0;
  run_tasks(count, args.call.threads, false, [&](auto& queue) {
    char* allocation = (char*)__builtin_malloc(size.used + 64);
    if (!allocation) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
    char* memory = allocation + (64 - (size_t)allocation % 64) % 64;
    for (long task = queue.next(); task >= 0; task = queue.next()) {
      const Task& strip = strips[task];
      Private<G> own;
      if (allocation) {
        Arena arena = {memory, 0};
        BackScratch<G> scratch(arena);
        own = take_private<G>(args, arena, &strip, most_rows, most_keys);
        run_strip<K, G>(args, strip, scratch, own);
      }
      // Tasks are handed out in order, so whoever is before this one is at work already and will pass the turn on.
      while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != task) sched_yield();
      if (allocation) add_to_totals<G>(args, strip, own);
      __atomic_store_n(&turn, task + 1, __ATOMIC_RELEASE);
    }
    __builtin_free(allocation);
  });
  __builtin_free(strips);
  return failed;
}

// Returns 0, or 1 when memory is exhausted. The totals come in as zeros.
template <class K, class Args>
static int run_backward(const Args& args) {
  int failed = 0;
  K::for_each_gradient([&](auto gradient) { failed |= run_gradient<K, decltype(gradient)>(args); });
  return failed;
}

}  // namespace attngen
