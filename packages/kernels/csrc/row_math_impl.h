// The loops of RowMath over `Lanes`: an element type, how many go at once, and how they become float32 and back.
// Everything is in an unnamed namespace, because each file that includes this is compiled for another processor.
#pragma once

#include "row_math.h"

namespace triptych::cpu {
namespace {

constexpr std::int64_t kBlock = 512;  // columns summed at a time: 2 KiB of float32 stay in the first-level cache

template <typename Element>
struct ScalarLanes {
  using T = Element;
  using Vector = float;
  static constexpr std::int64_t kWidth = 1;
  static Vector load(const T* from) { return to_float(*from); }
  static void store(T* to, Vector value) { *to = from_float<T>(value); }
  static Vector load_sum(const float* from) { return *from; }
  static void store_sum(float* to, Vector value) { *to = value; }
  static Vector add(Vector left, Vector right) { return left + right; }
};

template <typename Lanes, typename Step>  // step(lanes, d) handles lanes::kWidth columns from d on
void over_columns(std::int64_t width, const Step& step) {
  std::int64_t d = 0;
  for (; d + Lanes::kWidth <= width; d += Lanes::kWidth) step(Lanes{}, d);
  for (; d < width; ++d) step(ScalarLanes<typename Lanes::T>{}, d);
}

template <typename Lanes>
void sum(void* out_D, const void* rows_RD, const std::int32_t* first, const std::int32_t* last, std::int64_t D) {
  using T = typename Lanes::T;
  T* out = static_cast<T*>(out_D);
  const T* rows = static_cast<const T*>(rows_RD);
  alignas(64) float sums[kBlock];
  for (std::int64_t start = 0; start < D; start += kBlock) {
    const std::int64_t width = D - start < kBlock ? D - start : kBlock;
    const T* row = rows + *first * D + start;
    over_columns<Lanes>(width, [&](auto lanes, std::int64_t d) { lanes.store_sum(sums + d, lanes.load(row + d)); });
    for (const std::int32_t* slot = first + 1; slot != last; ++slot) {
      row = rows + *slot * D + start;
      over_columns<Lanes>(width, [&](auto lanes, std::int64_t d) {
        lanes.store_sum(sums + d, lanes.add(lanes.load_sum(sums + d), lanes.load(row + d)));
      });
    }
    over_columns<Lanes>(width, [&](auto lanes, std::int64_t d) { lanes.store(out + start + d, lanes.load_sum(sums + d)); });
  }
}

template <typename Lanes>
constexpr RowMath make_row_math() {
  return RowMath{sizeof(typename Lanes::T), sum<Lanes>};
}

template <template <typename> class Lanes>
const RowMath& row_math_of(DType dtype) {
  static constexpr RowMath kFloat32 = make_row_math<Lanes<float>>();
  static constexpr RowMath kBFloat16 = make_row_math<Lanes<BFloat16>>();
  static constexpr RowMath kHalf = make_row_math<Lanes<Half>>();
  switch (dtype) {
    case DType::kFloat32: return kFloat32;
    case DType::kBFloat16: return kBFloat16;
    default: return kHalf;
  }
}

}  // namespace
}  // namespace triptych::cpu
