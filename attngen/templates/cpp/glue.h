// What generated programs use besides mathlib.h: 64-bit row-uniform integers, lookups of indexed tensors, and the key
// intervals of a query tile.
#pragma once
#include "mathlib.h"

namespace attngen {

#if !defined(ATTNGEN_DOUBLE)
ATTNGEN_INLINE int64_t abs(int64_t x) { return x < 0 ? -x : x; }
ATTNGEN_INLINE int64_t maximum(int64_t a, int64_t b) { return a > b ? a : b; }
ATTNGEN_INLINE int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }
ATTNGEN_INLINE int64_t floor_div(int64_t a, int64_t b) {
  if (b == 0) return 0;
  int64_t q = a / b;
  return q - ((a % b != 0) & ((a < 0) != (b < 0)));
}
ATTNGEN_INLINE int64_t modulo(int64_t a, int64_t b) { return b == 0 ? 0 : a - floor_div(a, b) * b; }
#endif
ATTNGEN_INLINE int64_t sign(int64_t x) { return (x > 0) - (x < 0); }
ATTNGEN_INLINE int64_t relu(int64_t x) { return x > 0 ? x : 0; }
ATTNGEN_INLINE int64_t shift_left(int64_t a, int64_t b) { return a << b; }
ATTNGEN_INLINE int64_t shift_right(int64_t a, int64_t b) { return a >> b; }
ATTNGEN_INLINE int64_t pow(int64_t a, int64_t b) {
  int64_t x = 1;
  for (; b > 0; b--) x *= a;
  return x;
}
ATTNGEN_INLINE vi sign(vi x) { return vi(x < 0) - vi(x > 0); }
ATTNGEN_INLINE vi relu(vi x) { return maximum(x, vi{}); }
ATTNGEN_INLINE vi shift_left(vi a, vi b) { return a << b; }
ATTNGEN_INLINE vi shift_right(vi a, vi b) { return a >> b; }
ATTNGEN_INLINE vi pow(vi a, vi b) {
  for (int i = 0; i < W; i++) a[i] = (integer)pow((int64_t)a[i], (int64_t)b[i]);
  return a;
}
ATTNGEN_INLINE real modulo(real a, real b) { return a - floor_div(a, b) * b; }
ATTNGEN_INLINE vf modulo(vf a, vf b) { return a - floor_div(a, b) * b; }
// A row without mass: 0 / 0 is 0.
ATTNGEN_INLINE real safe_div(real a, real b) { return b == 0 ? 0 : a / b; }
ATTNGEN_INLINE vf safe_div(vf a, vf b) { return select(vb(b == 0), vf{}, a / b); }

// Towards zero; beyond 2^30 the nearest that leaves room for arithmetic (a logarithm of 0 on its way to be discarded).
ATTNGEN_INLINE vi saturated_int(vf x) {
  return to_int(raw_min(raw_max(x, splat(real(-(1 << 30)))), splat(real(1 << 30))));
}

// The nearest integer that a lane holds.
ATTNGEN_INLINE integer saturated(int64_t x) {
  const int64_t most = (int64_t)(~(uint64_t)0 >> (65 - 8 * sizeof(integer)));
  return (integer)(x > most ? most : x < -most - 1 ? -most - 1 : x);
}

// Element type -> the type of an expression.
ATTNGEN_INLINE int64_t number(int64_t x) { return x; }
ATTNGEN_INLINE int64_t number(int32_t x) { return x; }
ATTNGEN_INLINE int64_t number(int16_t x) { return x; }
ATTNGEN_INLINE int64_t number(int8_t x) { return x; }
ATTNGEN_INLINE int64_t number(uint8_t x) { return x; }
ATTNGEN_INLINE bool number(bool x) { return x; }
ATTNGEN_INLINE real number(float x) { return (real)x; }
ATTNGEN_INLINE real number(double x) { return (real)x; }
ATTNGEN_INLINE real number(bf16 x) { return (real)widen(x); }
ATTNGEN_INLINE real number(f16 x) { return (real)widen(x); }

// Lanes of an element type.
template <class T> struct LanesOf { typedef vi type; };
template <> struct LanesOf<float> { typedef vf type; };
template <> struct LanesOf<double> { typedef vf type; };
template <> struct LanesOf<bf16> { typedef vf type; };
template <> struct LanesOf<f16> { typedef vf type; };

// An index is kept inside the tensor: lanes and rows that the mask hides may ask for any element, and must not fault.
ATTNGEN_INLINE int64_t inside(int64_t index, int64_t size) {
  return index < 0 || size <= 0 ? 0 : index < size ? index : size - 1;
}

// One index of a lookup: the same for all lanes, or one per lane.
struct Index {
  int64_t uniform;
  vi lanes;
  bool varies;
  int64_t size, stride;
};

// p[index0 * stride0 + index1 * stride1 + ...] for the live lanes; 0 elsewhere.
template <class T, int N> static inline typename LanesOf<T>::type gather_at(const T* p, const Index (&at)[N], vb live) {
  typename LanesOf<T>::type x = {};
  for (int n = 0; n < N; n++)
    if (!at[n].varies) p += inside(at[n].uniform, at[n].size) * at[n].stride;
  for (int i = 0; i < W; i++) {
    if (!live[i]) continue;
    int64_t offset = 0;
    for (int n = 0; n < N; n++)
      if (at[n].varies) offset += inside(at[n].lanes[i], at[n].size) * at[n].stride;
    x[i] = number(p[offset]);
  }
  return x;
}

// An index start + step * key (step 1 or -1) with everything else uniform: contiguous or strided, where it stays inside.
template <class T> ATTNGEN_INLINE typename LanesOf<T>::type lookup_along_keys(const T* p, int64_t start, int step, int64_t size, int64_t stride, const Keys& keys) {
  const int64_t first = start + step * keys.first, last = first + step * (keys.count - 1);
  typename LanesOf<T>::type x = {};
  if (__builtin_expect(first >= 0 && first < size && last >= 0 && last < size, 1)) {
    if constexpr (__is_same(typename LanesOf<T>::type, vf)) {
      if constexpr (sizeof(T) <= sizeof(real)) return load_keys(p + start * stride, step * stride, keys);
      p += first * stride;
      for (long i = 0; i < W && i < keys.count; i++) x[i] = number(p[i * step * stride]);
      return x;
    } else {
      p += first * stride;
      for (long i = 0; i < W && i < keys.count; i++) x[i] = (integer)p[i * step * stride];
      return x;
    }
  }
  for (long i = 0; i < W && i < keys.count; i++)
    if (keys.live[i]) x[i] = number(p[inside(first + step * i, size) * stride]);
  return x;
}

// Calls f(begin, end) for the union of N intervals cut to [0, length): ascending and disjoint.
template <int N, class F> static inline void visit_union(int64_t (&begin)[N], int64_t (&end)[N], int64_t length, F&& f) {
  int64_t at = 0;
  for (;;) {
    int64_t next_begin = length, next_end = length;
    for (int i = 0; i < N; i++) {
      const int64_t b = begin[i] > at ? begin[i] : at, e = end[i] < length ? end[i] : length;
      if (b < e && b < next_begin) next_begin = b, next_end = e;
      else if (b < e && b == next_begin && e > next_end) next_end = e;
    }
    if (next_begin >= length) return;
    for (bool grown = true; grown;) {
      grown = false;
      for (int i = 0; i < N; i++) {
        const int64_t e = end[i] < length ? end[i] : length;
        if (begin[i] <= next_end && e > next_end) next_end = e, grown = true;
      }
    }
    f((long)next_begin, (long)next_end);
    at = next_end;
  }
}

// A block table: row r has the segments offsets[r] .. offsets[r + 1] - 1, each (begin, end) with a flag that says
// whether it is visible throughout. Query tile i of batch b and head h reads row pattern[b, h] * tiles + i.
struct Table {
  const int64_t* offsets;
  const int32_t* begin;
  const int32_t* end;
  const uint8_t* full;
  const int32_t* pattern;
};
ATTNGEN_INLINE int64_t table_row(const Table& t, const Call& call, int b, int h, long q, int query_tile) {
  return t.pattern[b * call.heads + h] * ((call.queries + query_tile - 1) / query_tile) + q / query_tile;
}

// The union of the segments of rows [row, last_row]: ascending and disjoint. Rows are few: a group of query tiles.
template <int MOST, class F> static inline void visit_table(const Table& t, int64_t row, int64_t last_row, F&& f) {
  int64_t at[MOST];
  const int rows = (int)(last_row - row + 1);
  for (int i = 0; i < rows; i++) at[i] = t.offsets[row + i];
  for (;;) {
    int64_t begin = -1, end = -1;
    for (int i = 0; i < rows; i++)
      if (at[i] < t.offsets[row + i + 1] && (begin < 0 || t.begin[at[i]] < begin)) begin = t.begin[at[i]], end = t.end[at[i]];
    if (begin < 0) return;
    for (bool grown = true; grown;) {
      grown = false;
      for (int i = 0; i < rows; i++)
        while (at[i] < t.offsets[row + i + 1] && t.begin[at[i]] <= end) {
          if (t.end[at[i]] > end) end = t.end[at[i]];
          at[i]++;
          grown = true;
        }
    }
    f((long)begin, (long)end);
  }
}

// Whether [k_begin, k_end) lies in one segment of the row that is visible throughout.
static inline bool table_full(const Table& t, int64_t row, int64_t k_begin, int64_t k_end) {
  int64_t low = t.offsets[row], high = t.offsets[row + 1];
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (t.end[middle] <= k_begin) low = middle + 1;
    else high = middle;
  }
  return low < t.offsets[row + 1] && t.full[low] && t.begin[low] <= k_begin && k_end <= t.end[low];
}

}  // namespace attngen
