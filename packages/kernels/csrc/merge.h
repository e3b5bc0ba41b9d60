// The merge ops: put image-feature rows into the rows of a prompt, and bring their gradients back.
//
// Letters: R rows of the batch (B*T), D hidden size, N feature rows, S slots (rows that take a feature).
// `features_stride` is a row stride in bytes; rows themselves are contiguous.
//
// `index` is one int32 array of R + N + 1 + S numbers, the merge plan:
//   src_R        feature row that each row takes, -1 = the row is text
//   offsets_N1   the slots of feature n are positions_S[offsets_N1[n]] up to positions_S[offsets_N1[n + 1]]
//   positions_S  row of each slot, grouped by feature, ascending within a feature
//
// Every function below exists once per backend: `cpu` (OpenMP), `cuda`, and `emulator` (the CUDA thread programs
// walked by the host). They differ in the last argument only: `Launch` is a thread count, a stream, or a grid.
// Copies move bytes, so they know no dtype; sums add in float32 in ascending row order and round once.
#pragma once

#include <cstdint>
#include <string>

#include "elements.h"

namespace triptych {

struct Index {
  const std::int32_t* src_R;
  const std::int32_t* offsets_N1;
  const std::int32_t* positions_S;
};

TRIPTYCH_HD Index split_index(const std::int32_t* index, std::int64_t R, std::int64_t N) {
  return Index{index, index + R, index + R + N + 1};
}

struct MergeArgs {        // out_RD[r] = src_R[r] >= 0 ? features_ND[src_R[r]] : embeds_RD[r]
  void* out_RD;           // contiguous, newly allocated
  const void* embeds_RD;  // contiguous
  const void* features_ND;
  std::int64_t features_stride;
  const std::int32_t* index;
  std::int64_t R;
  std::int64_t row_bytes;
};

struct FeaturesGradArgs {  // out_ND[n] = sum of grad_RD[r] over the slots r of feature n
  void* out_ND;            // contiguous, newly allocated
  const void* grad_RD;     // contiguous
  const std::int32_t* index;
  std::int64_t R;
  std::int64_t N;
  std::int64_t D;
  DType dtype;
};

struct TextGradArgs {   // out_RD[r] = src_R[r] >= 0 ? 0 : grad_RD[r]
  void* out_RD;         // contiguous, newly allocated
  const void* grad_RD;  // contiguous
  const std::int32_t* index;
  std::int64_t R;
  std::int64_t row_bytes;
};

namespace cpu {

struct Launch {
  int num_threads;
};

void merge(const MergeArgs& args, Launch launch);
void features_grad(const FeaturesGradArgs& args, Launch launch);
void text_grad(const TextGradArgs& args, Launch launch);

}  // namespace cpu

namespace emulator {

struct Launch {
  std::int64_t num_blocks;
  int threads_per_block;
};

void merge(const MergeArgs& args, Launch launch);
void features_grad(const FeaturesGradArgs& args, Launch launch);
void text_grad(const TextGradArgs& args, Launch launch);

}  // namespace emulator

namespace cuda {  // present where TRIPTYCH_WITHOUT_CUDA is not defined; throws std::runtime_error where CUDA does

struct Launch {
  int device;
  std::uintptr_t stream;
};

void merge(const MergeArgs& args, Launch launch);
void features_grad(const FeaturesGradArgs& args, Launch launch);
void text_grad(const TextGradArgs& args, Launch launch);

// Why no CUDA device can be used, or the empty string.
std::string device_problem();

}  // namespace cuda

// Fills src_R of `index` from K runs of (first row, number of rows, first feature), all within bounds; returns the first
// run that takes a row already taken, or -1.
std::int64_t place_runs(std::int32_t* index, std::int64_t R, const std::int64_t* runs_K3, std::int64_t K);

// Fills offsets_N1 and positions_S of `index` from its src_R, whose numbers lie in [-1, N).
void group_slots(std::int32_t* index, std::int64_t R, std::int64_t N);

}  // namespace triptych
