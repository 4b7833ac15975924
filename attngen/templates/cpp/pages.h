// Tokens of one (batch, head) that lie in pages: token i is row i % PAGE of the page table[i / PAGE]. The same `at` as
// Rows, and, for what copies tokens in runs, where they lie side by side.
#pragma once
#include "types.h"

namespace attngen {

template <class T, class Index, int PAGE>
struct PagedRows {
  T* data;  // of the head, in page 0
  const Index* table;
  long table_step, page, token, channel;
  T& at(long i, long d) const {
    const unsigned long token_of = i;
    return data[(long)table[token_of / PAGE * table_step] * page + (long)(token_of % PAGE) * token + d * channel];
  }
};

// Whether tokens [i, i + n) lie at even distances.
template <class T>
ATTNGEN_INLINE constexpr bool evenly_spaced(const Rows<T>&, long, long) {
  return true;
}
template <class T, class Index, int PAGE>
ATTNGEN_INLINE bool evenly_spaced(const PagedRows<T, Index, PAGE>&, long i, long n) {
  return (long)((unsigned long)i % PAGE) + n <= PAGE;
}

// Tokens from i on, as far as they are evenly spaced.
template <class T>
ATTNGEN_INLINE Rows<T> run_from(const Rows<T>& x, long i) {
  return {x.data + i * x.token, x.token, x.channel};
}
template <class T, class Index, int PAGE>
ATTNGEN_INLINE Rows<T> run_from(const PagedRows<T, Index, PAGE>& x, long i) {
  return {&x.at(i, 0), x.token, x.channel};
}

}  // namespace attngen
