// CPU kernels that copy whole rows.
#include <atomic>
#include <cstring>

#include <pthread.h>

#include "cpu_memory.h"
#include "cpu_parallel.h"
#include "merge.h"

namespace triptych::cpu {

namespace {

std::atomic<bool> forked_child{false};
const int fork_handler = pthread_atfork(nullptr, nullptr, [] { forked_child.store(true); });

void lower_to(std::atomic<std::int64_t>& smallest, std::int64_t row) {
  std::int64_t seen = smallest.load();
  while (row < seen && !smallest.compare_exchange_weak(seen, row)) {
  }
}

}  // namespace

bool is_forked_child() { return forked_child.load(std::memory_order_relaxed); }

std::int64_t embed_and_merge(const EmbedAndMergeArgs& args, Launch launch) {
  std::atomic<std::int64_t> first_bad{args.R};
  const Copy how = copy_for(args.R * args.row_bytes, false);
  parallel_rows(args.R, args.row_bytes, launch.num_threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t feature = args.index[r];
      const char* from;
      if (feature >= 0) {
        from = row_of(args.features_ND, feature, args.features_stride);
      } else if (args.ids_R[r] >= 0 && args.ids_R[r] < args.V) {
        from = row_of(args.weight_VD, args.ids_R[r], args.weight_stride);
      } else {
        lower_to(first_bad, r);
        return;
      }
      copy_row(row_of(args.out_RD, r, args.row_bytes), from, args.row_bytes, how);
    }
  });
  return first_bad.load() < args.R ? first_bad.load() : -1;
}

void merge(const MergeArgs& args, Launch launch) {
  const Copy how = copy_for(args.R * args.row_bytes, args.kept);
  parallel_rows(args.R, args.row_bytes, launch.num_threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t feature = args.index[r];
      const char* from = feature >= 0 ? row_of(args.features_ND, feature, args.features_stride)
                                      : row_of(args.embeds_RD, r, args.row_bytes);
      copy_row(row_of(args.out_RD, r, args.row_bytes), from, args.row_bytes, how);
    }
    finish_copies(how);
  });
}

void merge_in_place(const MergeInPlaceArgs& args, Launch launch) {
  const Index index = split_index(args.index, args.R, args.N);
  const Copy how = copy_for(args.R * args.row_bytes, true);
  parallel_rows(args.N, args.row_bytes, launch.num_threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      const char* from = row_of(args.features_ND, n, args.features_stride);
      for (std::int32_t slot = index.offsets_N1[n]; slot < index.offsets_N1[n + 1]; ++slot) {
        copy_row(row_of(args.embeds_RD, index.positions_S[slot], args.row_bytes), from, args.row_bytes, how);
      }
    }
    finish_copies(how);
  });
}

void text_grad(const TextGradArgs& args, Launch launch) {
  const Copy how = copy_for(args.R * args.row_bytes, false);
  parallel_rows(args.R, args.row_bytes, launch.num_threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      char* to = row_of(args.out_RD, r, args.row_bytes);
      if (args.index[r] >= 0) {
        std::memset(to, 0, args.row_bytes);
      } else {
        copy_row(to, row_of(args.grad_RD, r, args.row_bytes), args.row_bytes, how);
      }
    }
  });
}

}  // namespace triptych::cpu
