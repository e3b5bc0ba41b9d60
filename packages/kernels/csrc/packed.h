// The product of a few rows with a matrix that is stored in blocks: out_RO = x_RI w_OI^T, in float32, on the CPU only.
//
// Letters: R rows, I inputs, O outputs, B = ceil(O / kPackedWidth) blocks.
// A block has the weights of kPackedWidth outputs, input by input, so that one pass over the matrix reads it in order;
// outputs after the last one have weights of zero. Each sum adds kPackedInputs products at a time, in ascending order, and then
// these sums: so a row's results have the same bits for every number of rows and of threads.
#pragma once

#include <cstdint>

namespace triptych::cpu {

constexpr std::int64_t kPackedWidth = 32;
constexpr std::int64_t kPackedInputs = 128;

struct PackedArgs {
  float* out_RO;        // contiguous, newly allocated
  const float* x_RI;    // contiguous
  const float* w_BIW;   // contiguous, W = kPackedWidth
  const float* bias_O;  // or null
  std::int64_t R;
  std::int64_t I;
  std::int64_t O;
};

void packed_product(const PackedArgs& args, int num_threads);

}  // namespace triptych::cpu
