// Sums that the gradients of indexed tensors need: each task adds into copies of its own, in a fixed order, and copies
// are added to the totals task by task in the order of the tasks. No atomics, and the same bits on any thread count.
#pragma once
#include "glue.h"

namespace attngen {

// Where the cotangents of one indexed load go. `total` holds the axes that batch and head fix first, then the others,
// so that a task's copy is one run of `count` elements of it. By axis of the tensor: `stride` within a copy (0: fixed),
// `base` of the run within the total (0: not fixed). `inner` > 0: the first free axis is the query, and this is its
// stride, so that a task touches nothing but its own rows. `alone`: a copy is one number, a sum and its rounding error.
struct Target {
  real* total;
  int64_t count, inner, alone;
  int64_t stride[8], base[8];
};

// sum[0] + sum[1] += x, where sum[1] takes what rounding sum[0] leaves (the 2Sum of Knuth). What thousands of rows add
// to one number would lose digits otherwise.
ATTNGEN_INLINE void add_alone(real* sum, real x) {
  const real before = sum[0], now = before + x, added = now - before;
  sum[1] += (before - (now - added)) + (x - added);
  sum[0] = now;
}

// p[start + step * key] += g, for step 1 or -1. Lanes without a key hold 0.
ATTNGEN_INLINE void add_along_keys(real* p, int64_t start, int step, int64_t size, int64_t stride, const Keys& keys,
                                   vf g) {
  const int64_t first = start + step * keys.first, last = first + step * (W - 1);
  if (__builtin_expect(stride == 1 && first >= 0 && first < size && last >= 0 && last < size, 1)) {
    real* at = p + (step > 0 ? first : last);
    store(at, load(at) + (step > 0 ? g : reverse(g)));
    return;
  }
  for (long i = 0; i < W && i < keys.count; i++)
    if (g[i] != 0) p[inside(first + step * i, size) * stride] += g[i];
}

// The same for any index of a lane.
template <int N>
static inline void scatter_at(real* p, const Index (&at)[N], vf g) {
  for (int i = 0; i < W; i++) {
    if (g[i] == 0) continue;
    int64_t offset = 0;
    for (int n = 0; n < N; n++)
      offset += inside(at[n].varies ? at[n].lanes[i] : at[n].uniform, at[n].size) * at[n].stride;
    p[offset] += g[i];
  }
}

}  // namespace attngen
