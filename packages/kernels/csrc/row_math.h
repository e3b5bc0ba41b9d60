// Float32 sums of rows of one element type; the fastest set of instructions this processor has.
#pragma once

#include <cstdint>

#include "elements.h"

namespace triptych::cpu {

struct RowMath {
  std::int64_t element_bytes;
  // out_D = ((rows[first[0]] + rows[first[1]]) + ...) up to last, in float32, rounded once; first != last
  void (*sum)(void* out_D, const void* rows_RD, const std::int32_t* first, const std::int32_t* last, std::int64_t D);
};

const RowMath& row_math(DType dtype);

}  // namespace triptych::cpu
