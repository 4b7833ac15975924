// The number of keys that one row sees, over all key sets of a branch: masks alone, no products. For masks whose count
// has no closed form.
#pragma once
#include "blocks.h"

namespace attngen {

template <class B, class Args>
static inline int64_t visible_keys(const Args& args, const typename B::Row& row) {
  int64_t total = 0;
  B::for_each_keyset([&](auto keyset) {
    typedef decltype(keyset) KS;
    const long length = KS::length(args, row.b, row.h);
    KS::segments(args, row.b, row.h, row.q, row.q + 1, [&](long begin, long end) {
      end = end < length ? end : length;
      if (begin >= end) return;
      if (KS::full(args, row.b, row.h, row.q, row.q + 1, begin, end)) {
        total += end - begin;
        return;
      }
      for (long at = begin; at < end; at += W) {
        const TileKeys t = {at, 0, W, (int)(end - at < W ? end - at : W)};
        const Keys keys = keys_at<true, KS>(row, t, 0);
        for (int i = 0; i < W; i++) total -= keys.live[i];  // a mask lane is -1
      }
    });
  });
  return total;
}

}  // namespace attngen
