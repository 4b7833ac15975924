// Storage types and tensor views. A tensor arrives as a pointer and element strides, in any order and any memory
// layout; 16-bit floats are stored as plain 16-bit integers, so that no compiler support is needed for them.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace attngen {

#define ATTNGEN_INLINE static inline __attribute__((always_inline))

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

// Four element strides: batch, head, token, channel.
struct Tensor {
  const void* data;
  int64_t stride[4];
};

// The tokens of one (batch, head): element (i, d) is data[i * token + d * channel].
template <class T>
struct Rows {
  typedef T element;
  T* data;
  long token, channel;
  T& at(long i, long d) const { return data[i * token + d * channel]; }
};

template <class T>
static inline Rows<T> rows_of(const Tensor& t, long b, long h) {
  return {(T*)t.data + b * t.stride[0] + h * t.stride[1], (long)t.stride[2], (long)t.stride[3]};
}

static inline float float_of_bits(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
static inline uint32_t bits_of_float(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}

// Element -> float (or double), exact.
static inline float widen(float x) { return x; }
static inline double widen(double x) { return x; }
static inline float widen(bf16 x) { return float_of_bits((uint32_t)x.bits << 16); }
static inline float widen(f16 x) {
  uint32_t sign = (uint32_t)(x.bits & 0x8000) << 16, magnitude = x.bits & 0x7fff;
  if (magnitude >= 0x7c00) return float_of_bits(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  // Re-biasing the exponent by a multiplication also normalises the subnormal numbers.
  return float_of_bits(sign | bits_of_float(float_of_bits(magnitude << 13) * 0x1p112f));
}

// Float -> element, rounded to nearest even; NaN stays NaN.
template <class T>
struct narrow {
  static T of(double x) { return (T)x; }
};
template <>
struct narrow<bf16> {
  static bf16 of(float x) {
    uint32_t u = bits_of_float(x);
    if ((u & 0x7fffffff) > 0x7f800000) return {(uint16_t)(u >> 16 | 0x40)};
    return {(uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16)};
  }
};
template <>
struct narrow<f16> {
  static f16 of(float x) {
    uint32_t u = bits_of_float(x), sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffff;
    if (magnitude > 0x7f800000) return {(uint16_t)(sign | 0x7e00)};
    if (magnitude >= 0x477ff000) return {(uint16_t)(sign | 0x7c00)};
    if (magnitude < 0x38800000)  // subnormal result: adding 0.5 aligns the last kept bit with float's last bit
      return {(uint16_t)(sign | (bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000))};
    magnitude += 0xc8000fff + (magnitude >> 13 & 1);
    return {(uint16_t)(sign | magnitude >> 13)};
  }
};

}  // namespace attngen
