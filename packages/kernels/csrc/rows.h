// The norm of the few rows of a decoding step, in float32, on the CPU only: one call instead of eight of torch's.
//
// Letters: R rows of D numbers. Sums are added in an order that depends on D alone, so a row's results have the same
// bits for every number of rows.
#pragma once

#include <cstdint>

namespace triptych::cpu {

// out = weight x / sqrt(mean(x^2) + epsilon)
struct RowNormArgs {
  float* out_RD;        // contiguous, newly allocated
  const float* x_RD;    // contiguous
  const float* weight_D;
  std::int64_t R;
  std::int64_t D;
  float epsilon;
};

void row_norm(const RowNormArgs& args);

}  // namespace triptych::cpu
