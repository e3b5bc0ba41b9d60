// What avx2.cpp offers; call it only where `has_avx2()`.
#pragma once

#include <cstdint>

#include "row_math.h"

namespace triptych::cpu {

#ifdef TRIPTYCH_AVX2
inline bool has_avx2() {
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
  return has;
}
#else
constexpr bool has_avx2() { return false; }
#endif

constexpr std::int64_t kAvx2CopyBytes = 128;

const RowMath& row_math_avx2(DType dtype);

// Copies a multiple of kAvx2CopyBytes.
void copy_avx2(char* to, const char* from, std::int64_t bytes);

}  // namespace triptych::cpu
