// The ops on the CPU: rows are split over threads, and each output row is written by one thread.
#include <atomic>
#include <cstring>

#include <pthread.h>

#include "cpu_memory.h"
#include "cpu_parallel.h"
#include "merge.h"
#include "row_math.h"

namespace triptych::cpu {

namespace {

std::atomic<bool> forked_child{false};
const int fork_handler = pthread_atfork(nullptr, nullptr, [] { forked_child.store(true); });

}  // namespace

bool is_forked_child() { return forked_child.load(std::memory_order_relaxed); }

void merge(const MergeArgs& args, Launch launch) {
  const std::int64_t bytes = args.R * args.row_bytes;
  const Copy how = copy_into(bytes);
  parallel_rows(args.R, args.row_bytes, launch.num_threads, [&](std::int64_t begin, std::int64_t end) {
    FreshPages pages(args.out_RD, bytes);
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t feature = args.index[r];
      const char* from = feature >= 0 ? row_of(args.features_ND, feature, args.features_stride)
                                      : row_of(args.embeds_RD, r, args.row_bytes);
      char* to = row_of(args.out_RD, r, args.row_bytes);
      pages.reach(to);
      copy_row(to, from, args.row_bytes, how);
    }
  });
}

void features_grad(const FeaturesGradArgs& args, Launch launch) {
  const RowMath& math = row_math(args.dtype);
  const std::int64_t row_bytes = args.D * math.element_bytes;
  const Index index = split_index(args.index, args.R, args.N);
  const Copy how = copy_into(args.N * row_bytes);
  parallel_rows(args.N, row_bytes, launch.num_threads, [&](std::int64_t begin, std::int64_t end) {
    FreshPages pages(args.out_ND, args.N * row_bytes);
    for (std::int64_t n = begin; n < end; ++n) {
      char* out = row_of(args.out_ND, n, row_bytes);
      pages.reach(out);
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

void text_grad(const TextGradArgs& args, Launch launch) {
  const std::int64_t bytes = args.R * args.row_bytes;
  const Copy how = copy_into(bytes);
  parallel_rows(args.R, args.row_bytes, launch.num_threads, [&](std::int64_t begin, std::int64_t end) {
    FreshPages pages(args.out_RD, bytes);
    for (std::int64_t r = begin; r < end; ++r) {
      char* to = row_of(args.out_RD, r, args.row_bytes);
      pages.reach(to);
      if (args.index[r] >= 0) {
        std::memset(to, 0, args.row_bytes);
      } else {
        copy_row(to, row_of(args.grad_RD, r, args.row_bytes), args.row_bytes, how);
      }
    }
  });
}

}  // namespace triptych::cpu
