// CPU kernels that add.
#include <cstring>

#include "cpu_memory.h"
#include "cpu_parallel.h"
#include "merge.h"
#include "row_math.h"

namespace triptych::cpu {

void merge_add(const MergeAddArgs& args, Launch launch) {
  const RowMath& math = row_math(args.dtype);
  const std::int64_t row_bytes = args.D * math.element_bytes;
  const Copy how = copy_for(args.R * row_bytes, false);
  parallel_rows(args.R, row_bytes, launch.num_threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      char* out = row_of(args.out_RD, r, row_bytes);
      const char* hidden = row_of(args.hidden_RD, r, row_bytes);
      if (args.index[r] >= 0) {
        math.add(out, hidden, row_of(args.features_ND, args.index[r], args.features_stride), args.D);
      } else {
        copy_row(out, hidden, row_bytes, how);
      }
    }
  });
}

void merge_add_in_place(const MergeAddInPlaceArgs& args, Launch launch) {
  const RowMath& math = row_math(args.dtype);
  const std::int64_t row_bytes = args.D * math.element_bytes;
  const Index index = split_index(args.index, args.R, args.N);
  parallel_rows(args.N, row_bytes, launch.num_threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      const char* feature = row_of(args.features_ND, n, args.features_stride);
      for (std::int32_t slot = index.offsets_N1[n]; slot < index.offsets_N1[n + 1]; ++slot) {
        char* hidden = row_of(args.hidden_RD, index.positions_S[slot], row_bytes);
        math.add(hidden, hidden, feature, args.D);
      }
    }
  });
}

void features_grad(const FeaturesGradArgs& args, Launch launch) {
  const RowMath& math = row_math(args.dtype);
  const std::int64_t row_bytes = args.D * math.element_bytes;
  const Index index = split_index(args.index, args.R, args.N);
  const Copy how = copy_for(args.N * row_bytes, false);
  parallel_rows(args.N, row_bytes, launch.num_threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      char* out = row_of(args.out_ND, n, row_bytes);
      const std::int32_t* first = index.positions_S + index.offsets_N1[n];
      const std::int32_t* last = index.positions_S + index.offsets_N1[n + 1];
      if (first == last) {
        std::memset(out, 0, row_bytes);
      } else if (first + 1 == last) {  // a copy keeps every bit, also of -0.0 and NaN
        copy_row(out, row_of(args.grad_RD, *first, row_bytes), row_bytes, how);
      } else {
        math.sum(out, args.grad_RD, first, last, args.D);
      }
    }
  });
}

}  // namespace triptych::cpu
