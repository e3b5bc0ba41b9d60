// Vectors of float32 as the compiler knows them: loops written with them are compiled for several kinds of processors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "elements.h"

#define TRIPTYCH_INLINE inline __attribute__((always_inline))

namespace triptych::cpu {

typedef float Sixteen __attribute__((vector_size(64)));
typedef float Eight __attribute__((vector_size(32)));
typedef float Four __attribute__((vector_size(16)));

// Integers with as many lanes; `Half` ones have the bits of a bfloat16.
template <typename Vector>
struct Lanes;

template <>
struct Lanes<Sixteen> {
  typedef std::int32_t Ints __attribute__((vector_size(64)));
  typedef std::uint16_t Halves __attribute__((vector_size(32)));
};

template <>
struct Lanes<Eight> {
  typedef std::int32_t Ints __attribute__((vector_size(32)));
  typedef std::uint16_t Halves __attribute__((vector_size(16)));
};

template <>
struct Lanes<Four> {
  typedef std::int32_t Ints __attribute__((vector_size(16)));
  typedef std::uint16_t Halves __attribute__((vector_size(8)));
};

template <typename Vector>
constexpr int kWidthOf = sizeof(Vector) / sizeof(float);

template <typename Vector>
TRIPTYCH_INLINE Vector load(const float* from) {
  Vector value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

template <typename Vector>
TRIPTYCH_INLINE Vector load(const BFloat16* from) {
  typename Lanes<Vector>::Halves halves;
  __builtin_memcpy(&halves, from, sizeof halves);
  const typename Lanes<Vector>::Ints bits = __builtin_convertvector(halves, typename Lanes<Vector>::Ints) << 16;
  Vector value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

// Asks for `kBytes` of rows that are read soon: 8 rows ahead into the first cache, 32 ahead into the second.
template <std::size_t kBytes>
TRIPTYCH_INLINE void prefetch(const void* row, std::int64_t row_bytes) {
  for (std::size_t byte = 0; byte < kBytes; byte += 64) {
    __builtin_prefetch(static_cast<const char*>(row) + 8 * row_bytes + byte, 0, 3);
    __builtin_prefetch(static_cast<const char*>(row) + 32 * row_bytes + byte, 0, 2);
  }
}

template <typename Vector>
TRIPTYCH_INLINE void store(float* to, Vector value) {
  __builtin_memcpy(to, &value, sizeof value);
}

}  // namespace triptych::cpu
