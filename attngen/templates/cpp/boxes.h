// Tokens of a grid in the order of its boxes: box by box, row by row within each. Kernels count tokens in that order, so
// that a query tile and the keys that it meets are boxes of the grid; where a token lies in memory is looked up here, and
// nothing is moved but what is packed in cache anyway. At the edge of the grid boxes are padded with tokens that do not
// exist: they read their neighbour, are hidden by the mask, and are never written.
#pragma once
#include "pages.h"
#include "simd.h"

namespace attngen {

// A grid of three axes (slower ones may have length 1) and the sides of its boxes: powers of two but for the slowest.
template <int N0, int N1, int N2, int S0, int S1, int S2>
struct BoxOrder {
  static constexpr int length(int axis) { return axis == 0 ? N0 : axis == 1 ? N1 : N2; }
  static constexpr int side(int axis) { return axis == 0 ? S0 : axis == 1 ? S1 : S2; }
  static constexpr int count(int axis) { return (length(axis) + side(axis) - 1) / side(axis); }
  static constexpr int64_t volume = S0 * S1 * S2, tokens = volume * count(0) * count(1) * count(2);
  // How many boxes, or tokens of a box, one step along an axis is.
  static constexpr int64_t boxes(int axis) { return axis == 2 ? 1 : count(axis + 1) * boxes(axis + 1); }
  static constexpr int64_t inner(int axis) { return axis == 2 ? 1 : side(axis + 1) * inner(axis + 1); }
  static constexpr int log2(int64_t x) { return x > 1 ? 1 + log2(x / 2) : 0; }

  template <int AXIS>
  ATTNGEN_INLINE int64_t coordinate(uint64_t i) {
    return i / volume / boxes(AXIS) % count(AXIS) * side(AXIS) + i % volume / inner(AXIS) % side(AXIS);
  }
  ATTNGEN_INLINE int64_t flat(uint64_t i) { return (coordinate<0>(i) * N1 + coordinate<1>(i)) * N2 + coordinate<2>(i); }
  ATTNGEN_INLINE bool has(uint64_t i) {
    return coordinate<0>(i) < N0 && coordinate<1>(i) < N1 && coordinate<2>(i) < N2;
  }
  template <int AXIS>
  ATTNGEN_INLINE int64_t nearest(uint64_t i) {
    const int64_t at = coordinate<AXIS>(i);
    return at < length(AXIS) ? at : length(AXIS) - 1;
  }
  // The row-major position of the token, or of the nearest one that exists.
  ATTNGEN_INLINE int64_t place(uint64_t i) { return (nearest<0>(i) * N1 + nearest<1>(i)) * N2 + nearest<2>(i); }

  // The same of W keys, which lie in one box.
  // The slowest axis of a box needs no bits cut off, so its side may be any number.
  template <int AXIS>
  ATTNGEN_INLINE vi within_box(vi within) {
    const vi at = within >> (integer)log2(inner(AXIS));
    return inner(AXIS) * side(AXIS) == volume ? at : at & (integer)(side(AXIS) - 1);
  }
  template <int AXIS>
  ATTNGEN_INLINE vi coordinates(const Keys& keys) {
    static_assert(volume % W == 0, "a vector of keys does not straddle boxes");
    const uint64_t i = keys.first;
    const vi within = iota() + (integer)(i % volume);
    return within_box<AXIS>(within) +
           (integer)(i / volume / boxes(AXIS) % count(AXIS) * side(AXIS));
  }
  ATTNGEN_INLINE vi positions(const Keys& keys) {
    return (coordinates<0>(keys) * (integer)N1 + coordinates<1>(keys)) * (integer)N2 + coordinates<2>(keys);
  }
};

// The tokens of one (batch, head), by their number in the order of boxes.
template <class T, class Order>
struct BoxRows {
  typedef T element;
  T* data;
  long token, channel;
  T& at(long i, long d) const { return data[Order::place(i) * token + d * channel]; }
};

template <class Order, class T>
static inline BoxRows<T, Order> in_boxes(const Rows<T>& rows) {
  return {rows.data, rows.token, rows.channel};
}

// Whether a token exists.
template <class R>
ATTNGEN_INLINE constexpr bool exists(const R&, long) {
  return true;
}
template <class T, class Order>
ATTNGEN_INLINE bool exists(const BoxRows<T, Order>&, long i) {
  return Order::has(i);
}

template <class T, class Order>
ATTNGEN_INLINE bool evenly_spaced(const BoxRows<T, Order>&, long i, long n) {
  const long at = Order::template coordinate<2>(i);
  return at % Order::side(2) + n <= Order::side(2) && at + n <= Order::length(2);
}
template <class T, class Order>
ATTNGEN_INLINE Rows<T> run_from(const BoxRows<T, Order>& x, long i) {
  return {&x.at(i, 0), x.token, x.channel};
}

// Intervals of coordinates as intervals of the boxes that hold them.
template <int N>
static inline void to_boxes(int64_t (&begin)[N], int64_t (&end)[N], int side) {
  for (int i = 0; i < N; i++) {
    end[i] = begin[i] < end[i] ? (end[i] + side - 1) / side : 0;
    begin[i] = begin[i] / side;
  }
}

}  // namespace attngen
