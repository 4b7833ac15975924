// The matrix products of attention, as register tiles: MR rows times NV vectors of accumulators stay in registers
// while the loop runs over the summed index; B is packed so that a panel of NV vectors is read consecutively, A is read
// one broadcast word at a time. A_STEP other than 1 (with a_row 1) reads A transposed.
#pragma once
#include "simd.h"

namespace attngen {

// C (+)= A B for one register tile. With `factors`, C is first scaled row by row: this is where the accumulator of
// an online normalizer is rescaled, for free, instead of in a pass of its own. It joins at the end: sums of tiles are added
// up, not numbers one by one, which keeps long rows exact.
template <class Words, int MR, int NV, bool Accumulate, bool Scaled = true, long A_STEP = 1>
ATTNGEN_INLINE void register_tile(const typename Words::word* a, long a_row, const typename Words::word* b, real* c,
                                  long c_row, const real* factors, long steps) {
  vf acc[MR][NV];
#pragma GCC unroll 16
  for (int r = 0; r < MR; r++)
#pragma GCC unroll 16
    for (int v = 0; v < NV; v++) acc[r][v] = vf{};
#pragma GCC unroll 2
  for (long s = 0; s < steps; s++) {
    typename Words::vector bs[NV];
#pragma GCC unroll 16
    for (int v = 0; v < NV; v++) bs[v] = Words::load_words(b + s * (NV * W) + v * W);
#pragma GCC unroll 16
    for (int r = 0; r < MR; r++) {
      typename Words::vector as = Words::broadcast(a + r * a_row + s * A_STEP);
#pragma GCC unroll 16
      for (int v = 0; v < NV; v++) acc[r][v] = Words::multiply_add(acc[r][v], as, bs[v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < MR; r++)
#pragma GCC unroll 16
    for (int v = 0; v < NV; v++) {
      real* to = c + r * c_row + v * W;
      store(to, !Accumulate ? acc[r][v] : fma(load(to), splat(Scaled ? factors[r] : (real)1), acc[r][v]));
    }
}

struct Nothing {
  void operator()() const {}
};

// All rows against one panel: MR rows at a time, then half as many, so that few rows (decoding) cost little. `between`
// is called once for each of the large register tiles.
template <class Words, int MR, int NV, bool Accumulate, bool Scaled = true, long A_STEP = 1, class Between = Nothing>
ATTNGEN_INLINE void panel_product(const typename Words::word* a, long a_row, const typename Words::word* b, real* c,
                                  long c_row, const real* factors, long steps, int rows,
                                  const Between& between = Between()) {
  int r = 0;
  for (; r + MR <= rows; r += MR) {
    between();
    register_tile<Words, MR, NV, Accumulate, Scaled, A_STEP>(a + r * a_row, a_row, b, c + r * c_row, c_row,
                                                             factors + r, steps);
  }
  if constexpr (MR > 1)
    if (r < rows)
      panel_product<Words, MR / 2, NV, Accumulate, Scaled, A_STEP>(a + r * a_row, a_row, b, c + r * c_row, c_row,
                                                                   factors + r, steps, rows - r);
}

// How `vectors` vectors of columns are cut into panels of at most NV: as evenly as possible (5 -> 3 + 2, not 4 + 1),
// since a narrow panel hides less of the multiply-add latency.
template <int VECTORS, int NV>
struct Panels {
  static constexpr int count = (VECTORS + NV - 1) / NV;
  static constexpr int wide = (VECTORS + count - 1) / count;       // vectors in a wide panel
  static constexpr int wide_count = VECTORS - count * (wide - 1);  // the others have one vector less
};

}  // namespace attngen
