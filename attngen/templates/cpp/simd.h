// Chooses the vector types from the compiler's target macros, and adds what is the same on every ISA: the unit of
// the matrix products, partial loads and stores of any element type, and the lookups of indexed tensors.
#pragma once
#if defined(ATTNGEN_DOUBLE) || defined(ATTNGEN_PORTABLE)
#include "simd_portable.h"
#elif defined(__AVX512F__) || defined(ATTNGEN_EMULATE_AVX512)
#if defined(__AVX512BF16__) || defined(ATTNGEN_EMULATE_BF16)
#define ATTNGEN_BF16_DOT 1
#endif
#include "simd_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#include "simd_avx2.h"
#else
#include "simd_portable.h"
#endif

namespace attngen {

constexpr real INF = (real)__builtin_inff();

// A word is what one step of a matrix product consumes: one number...
struct NumberWords {
  typedef real word, number;
  typedef vf vector;
  static constexpr int per_word = 1;
  ATTNGEN_INLINE vector load_words(const word* p) { return load(p); }
  ATTNGEN_INLINE vector broadcast(const word* p) { return splat(*p); }
  ATTNGEN_INLINE vf multiply_add(vf c, vector a, vector b) { return fma(a, b, c); }
};

// ... or a pair of bf16.
#if defined(ATTNGEN_BF16_DOT)
struct PairWords {
  typedef uint32_t word;
  typedef bf16 number;
  typedef vi vector;
  static constexpr int per_word = 2;
  ATTNGEN_INLINE vector load_words(const word* p) { return vi(_mm512_loadu_si512(p)); }
  ATTNGEN_INLINE vector broadcast(const word* p) { return splat((int32_t)*p); }
  ATTNGEN_INLINE vf multiply_add(vf c, vector a, vector b) { return dot_pairs(c, a, b); }
};
template <class T>
struct WordsOf {
  typedef NumberWords type;
};
template <>
struct WordsOf<bf16> {
  typedef PairWords type;
};
#else
template <class T>
struct WordsOf {
  typedef NumberWords type;
};
#endif

template <class T>
ATTNGEN_INLINE vf load_first(const T* p, long n) {
  if (n >= W) return load(p);
  real x[W] = {};
  for (long i = 0; i < n; i++) x[i] = widen(p[i]);
  return load(x);
}
template <class T>
ATTNGEN_INLINE void store_first(T* p, vf x, long n) {
  if (n >= W) return store(p, x);
  T y[W];
  store(y, x);
  for (long i = 0; i < n; i++) p[i] = y[i];
}

// The W keys that one vector covers. `index` are their positions; lane i exists when i < count; `live` lanes are
// visible to the row at hand (tensors are looked up only where this holds).
struct RandomBlock;
struct Keys {
  vi index;
  long first;
  long count;
  vb live;
  long from = 0, to = 0;          // the keys of the whole pass over the row
  RandomBlock* random = nullptr;  // numbers that the vectors of a row share
};

// Element first + lane of a tensor whose index moves with the key, at any stride: contiguous loads where possible.
template <class T>
ATTNGEN_INLINE vf load_keys(const T* p, long stride, const Keys& keys) {
  p += keys.first * stride;
  if (keys.count >= W && stride == 1) return load(p);
  if (keys.count >= W && stride == -1) return reverse(load(p - (W - 1)));
  real x[W] = {};
  for (long i = 0; i < W && i < keys.count; i++) x[i] = (real)widen(p[i * stride]);
  return load(x);
}

}  // namespace attngen
