// Element types as raw bits, and their conversions to and from float32: round to nearest even, NaN stays NaN.
// Compiled by g++ and by nvcc; both give the same bits for every value that is not NaN.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define TRIPTYCH_HD __host__ __device__ __forceinline__
#else
#define TRIPTYCH_HD inline __attribute__((always_inline))
#endif

namespace triptych {

enum class DType : int { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2 };

struct BFloat16 {
  std::uint16_t bits;
};

struct Half {
  std::uint16_t bits;
};

TRIPTYCH_HD float float_of_bits(std::uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

TRIPTYCH_HD std::uint32_t bits_of_float(float value) {
  std::uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

TRIPTYCH_HD float to_float(float value) { return value; }

TRIPTYCH_HD float to_float(BFloat16 value) { return float_of_bits(static_cast<std::uint32_t>(value.bits) << 16); }

TRIPTYCH_HD float to_float(Half value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(value.bits & 0x7fffu);
  if (magnitude >= 0x7c00u) return float_of_bits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude >= 0x0400u) return float_of_bits(sign | ((magnitude << 13) + 0x38000000u));
  // Subnormal: an integer multiple of 2^-24, exact in float32.
  const float subnormal = static_cast<float>(magnitude) * float_of_bits(0x33800000u);
  return float_of_bits(sign | bits_of_float(subnormal));
}

template <typename T>
TRIPTYCH_HD T from_float(float value);

template <>
TRIPTYCH_HD float from_float<float>(float value) {
  return value;
}

template <>
TRIPTYCH_HD BFloat16 from_float<BFloat16>(float value) {
  const std::uint32_t bits = bits_of_float(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return BFloat16{0x7fc0u};
  return BFloat16{static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

template <>
TRIPTYCH_HD Half from_float<Half>(float value) {
  const std::uint32_t bits = bits_of_float(value);
  const std::uint16_t sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return Half{static_cast<std::uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x47800000u) return Half{static_cast<std::uint16_t>(sign | 0x7c00u)};
  if (magnitude >= 0x38800000u) {
    const std::uint32_t rounded = magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u);
    return Half{static_cast<std::uint16_t>(sign | rounded >> 13)};
  }
  // Below 2^-14: adding 0.5 aligns the last bit kept to 2^-24 and rounds to nearest even on the way.
  const float aligned = float_of_bits(magnitude) + 0.5f;
  return Half{static_cast<std::uint16_t>(sign | (bits_of_float(aligned) - 0x3f000000u))};
}

}  // namespace triptych
