// Brings the next block of keys and values into the second-level cache while this one is computed. A core waits for a
// few dozen cache lines at a time, so a burst of requests stalls it as a burst of loads would: every register tile asks
// for a few lines, and the products hide the rest.
#pragma once
#include "boxes.h"

namespace attngen {

constexpr long CACHE_LINE = 64;

struct Ahead {
  struct Run {
    const char* row;
    long step, rows, lines, line;  // bytes from row to row, rows left, cache lines of a row, lines of this one done
  } runs[2];
  int pace;  // lines for each register tile
};

// What one register tile asks for.
ATTNGEN_INLINE void go_on(Ahead& ahead) {
  int left = ahead.pace;
  for (Ahead::Run& run : ahead.runs)
    for (; left > 0 && run.rows > 0; left--) {
      __builtin_prefetch(run.row + run.line * CACHE_LINE, 0, 2);
      if (++run.line == run.lines) run.line = 0, run.rows--, run.row += run.step;
    }
}

// Tokens [begin, end) whose channels lie side by side; what lies in pages or boxes or is strided is not asked for.
template <class T>
static inline Ahead::Run run_ahead(const Rows<T>& x, long begin, long end, int channels) {
  if (x.channel != 1 || begin >= end) return {};
  const long lines = (channels * (long)sizeof(T) + CACHE_LINE - 1) / CACHE_LINE;
  return {(const char*)&x.at(begin, 0), x.token * (long)sizeof(T), end - begin, lines, 0};
}
template <class R>
static inline Ahead::Run run_ahead(const R&, long, long, int) {
  return {};
}

// Sets the pace at which `tiles` register tiles bring everything.
static inline void set_pace(Ahead& ahead, long tiles) {
  long lines = 0;
  for (const Ahead::Run& run : ahead.runs) lines += run.rows * run.lines;
  ahead.pace = (int)((lines + tiles - 1) / (tiles > 0 ? tiles : 1));
}

}  // namespace attngen
