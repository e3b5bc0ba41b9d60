// Products of small matrices and the softmax of their rows, in vectors of any width; decode.cpp compiles them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "vectors.h"

namespace triptych::cpu {

constexpr int kFew = 4;  // for so few rows, reading the right matrix takes longer than the products

// out[r, c] = sum_i left[r, i] right[i, c] for kRows rows and kVectors vectors of columns; the sums stay in registers.
template <typename Vector, typename T, int kRows, int kVectors>
TRIPTYCH_INLINE void tile(float* out, std::int64_t out_stride, const float* left, std::int64_t left_stride,
                          const T* right, std::int64_t right_stride, std::int64_t I) {
  constexpr int kWidth = kWidthOf<Vector>;
  constexpr bool kReadsMemory = kRows <= kFew;
  Vector sums[kRows][kVectors] = {};
  for (std::int64_t i = 0; i < I; ++i) {
    const T* from = right + i * right_stride;
    if (kReadsMemory) prefetch<kVectors * kWidth * sizeof(T)>(from, right_stride * sizeof(T));
    Vector columns[kVectors];
    for (int v = 0; v < kVectors; ++v) columns[v] = load<Vector>(from + v * kWidth);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) sums[r][v] += left[r * left_stride + i] * columns[v];
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) store(out + r * out_stride + v * kWidth, sums[r][v]);
  }
}

// The same for any number of rows: as many at a time as there are, up to kRows.
template <typename Vector, typename T, int kRows, int kVectors>
TRIPTYCH_INLINE void tiles(float* out, std::int64_t out_stride, const float* left, std::int64_t left_stride,
                           const T* right, std::int64_t right_stride, std::int64_t I, std::int64_t rows) {
  for (; rows >= kRows; rows -= kRows, out += kRows * out_stride, left += kRows * left_stride) {
    tile<Vector, T, kRows, kVectors>(out, out_stride, left, left_stride, right, right_stride, I);
  }
  if constexpr (kRows > 1) {
    if (rows > 0) {
      tiles<Vector, T, kRows - 1, kVectors>(out, out_stride, left, left_stride, right, right_stride, I, rows);
    }
  }
}

// And for any number of whole vectors of columns. They are the outer loop, so that they are read from memory once.
template <typename Vector, typename T, int kRows, int kVectors>
TRIPTYCH_INLINE void product(float* out, std::int64_t out_stride, const float* left, std::int64_t left_stride,
                             const T* right, std::int64_t right_stride, std::int64_t I, std::int64_t rows,
                             std::int64_t columns) {
  constexpr int kWidth = kWidthOf<Vector>, kTile = kVectors * kWidth;
  std::int64_t c = 0;
  for (; c + kTile <= columns; c += kTile) {
    tiles<Vector, T, kRows, kVectors>(out + c, out_stride, left, left_stride, right + c, right_stride, I, rows);
  }
  for (; c + kWidth <= columns; c += kWidth) {
    tiles<Vector, T, kRows, 1>(out + c, out_stride, left, left_stride, right + c, right_stride, I, rows);
  }
}

constexpr float kLeast = -87.0f;  // exp of less is below the least normal number, and counts as zero

// exp(x) of x <= 0 by its Taylor series around the nearest multiple of log(2), within about one unit in the last place.
template <typename Vector>
TRIPTYCH_INLINE Vector exponential(Vector given) {
  using Ints = typename Lanes<Vector>::Ints;
  const Vector least = kLeast - Vector{};
  const Vector x = given < least ? least : given;
  const Vector shifted = x * 1.44269504f + 12582912.0f;  // its last bits are the number of multiples
  const Vector multiples = shifted - 12582912.0f;
  const Vector rest = (x - multiples * 0.693359375f) + multiples * 2.12194440e-4f;
  Vector series = rest * (1.0f / 5040) + 1.0f / 720;
  series = series * rest + 1.0f / 120;
  series = series * rest + 1.0f / 24;
  series = series * rest + 1.0f / 6;
  series = series * rest + 0.5f;
  series = series * rest + 1.0f;
  series = series * rest + 1.0f;
  Ints bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127) << 23;
  Vector power;
  __builtin_memcpy(&power, &bits, sizeof power);
  return given < least ? Vector{} : series * power;
}

// Replaces the scores of `keys` keys by exp(score - greatest); numbers after them, up to a whole vector, become zeros.
template <typename Vector>
TRIPTYCH_INLINE void softmax(float* scores, std::int64_t keys, float* greatest, float* sum) {
  constexpr int kWidth = kWidthOf<Vector>;
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  const std::int64_t end = (keys + kWidth - 1) / kWidth * kWidth;
  for (std::int64_t k = keys; k < end; ++k) scores[k] = kNone;
  Vector most = kNone - Vector{};
  for (std::int64_t k = 0; k < end; k += kWidth) {
    const Vector each = load<Vector>(scores + k);
    most = each > most ? each : most;
  }
  float found = kNone;
  for (int lane = 0; lane < kWidth; ++lane) found = std::max(found, most[lane]);
  Vector sums = {};
  for (std::int64_t k = 0; k < end; k += kWidth) {
    const Vector each = exponential<Vector>(load<Vector>(scores + k) - found);
    store(scores + k, each);
    sums += each;
  }
  float total = 0.0f;
  for (int lane = 0; lane < kWidth; ++lane) total += sums[lane];
  *greatest = found;
  *sum = total;
}

}  // namespace triptych::cpu
