// CPU kernels that add: float32 accumulation in ascending row order, one rounding.
#include <algorithm>
#include <cstring>

#include "cpu_parallel.h"
#include "merge.h"

namespace triptych::cpu {

namespace {

constexpr std::int64_t kBlock = 512;  // columns summed at a time: 2 KiB of float32 stay in the first-level cache

template <typename T>
const T* row_of(const void* rows, std::int64_t row, std::int64_t stride) {
  return reinterpret_cast<const T*>(static_cast<const char*>(rows) + row * stride);
}

template <typename T>
T* row_of(void* rows, std::int64_t row, std::int64_t stride) {
  return reinterpret_cast<T*>(static_cast<char*>(rows) + row * stride);
}

template <typename T>
void add_row(T* out, const T* left, const T* right, std::int64_t num_columns) {
  for (std::int64_t d = 0; d < num_columns; ++d) out[d] = from_float<T>(to_float(left[d]) + to_float(right[d]));
}

template <typename T>
void sum_slots(T* out, const FeaturesGradArgs& args, const std::int32_t* first, const std::int32_t* last) {
  const std::int64_t row_bytes = args.D * static_cast<std::int64_t>(sizeof(T));
  float sum[kBlock];
  for (std::int64_t start = 0; start < args.D; start += kBlock) {
    const std::int64_t width = std::min(kBlock, args.D - start);
    const T* row = row_of<T>(args.grad_RD, *first, row_bytes) + start;
    for (std::int64_t d = 0; d < width; ++d) sum[d] = to_float(row[d]);
    for (const std::int32_t* slot = first + 1; slot != last; ++slot) {
      row = row_of<T>(args.grad_RD, *slot, row_bytes) + start;
      for (std::int64_t d = 0; d < width; ++d) sum[d] += to_float(row[d]);
    }
    for (std::int64_t d = 0; d < width; ++d) out[start + d] = from_float<T>(sum[d]);
  }
}

template <typename T>
void merge_add_as(const MergeAddArgs& args, Launch launch) {
  const std::int64_t row_bytes = args.D * static_cast<std::int64_t>(sizeof(T));
  parallel_rows(args.R, row_bytes, launch.num_threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const T* hidden = row_of<T>(args.hidden_RD, r, row_bytes);
      T* out = row_of<T>(args.out_RD, r, row_bytes);
      if (args.index[r] >= 0) {
        add_row(out, hidden, row_of<T>(args.features_ND, args.index[r], args.features_stride), args.D);
      } else {
        std::memcpy(out, hidden, row_bytes);
      }
    }
  });
}

template <typename T>
void merge_add_in_place_as(const MergeAddInPlaceArgs& args, Launch launch) {
  const std::int64_t row_bytes = args.D * static_cast<std::int64_t>(sizeof(T));
  const Index index = split_index(args.index, args.R, args.N);
  parallel_rows(args.N, row_bytes, launch.num_threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      const T* feature = row_of<T>(args.features_ND, n, args.features_stride);
      for (std::int32_t slot = index.offsets_N1[n]; slot < index.offsets_N1[n + 1]; ++slot) {
        T* hidden = row_of<T>(args.hidden_RD, index.positions_S[slot], row_bytes);
        add_row(hidden, hidden, feature, args.D);
      }
    }
  });
}

template <typename T>
void features_grad_as(const FeaturesGradArgs& args, Launch launch) {
  const std::int64_t row_bytes = args.D * static_cast<std::int64_t>(sizeof(T));
  const Index index = split_index(args.index, args.R, args.N);
  parallel_rows(args.N, row_bytes, launch.num_threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      T* out = row_of<T>(args.out_ND, n, row_bytes);
      const std::int32_t* first = index.positions_S + index.offsets_N1[n];
      const std::int32_t* last = index.positions_S + index.offsets_N1[n + 1];
      if (first == last) {
        std::memset(out, 0, row_bytes);
      } else if (first + 1 == last) {  // a copy keeps every bit, also of -0.0 and NaN
        std::memcpy(out, row_of<T>(args.grad_RD, *first, row_bytes), row_bytes);
      } else {
        sum_slots(out, args, first, last);
      }
    }
  });
}

}  // namespace

void merge_add(const MergeAddArgs& args, Launch launch) {
  switch (args.dtype) {
    case DType::kFloat32: return merge_add_as<float>(args, launch);
    case DType::kBFloat16: return merge_add_as<BFloat16>(args, launch);
    case DType::kFloat16: return merge_add_as<Half>(args, launch);
  }
}

void merge_add_in_place(const MergeAddInPlaceArgs& args, Launch launch) {
  switch (args.dtype) {
    case DType::kFloat32: return merge_add_in_place_as<float>(args, launch);
    case DType::kBFloat16: return merge_add_in_place_as<BFloat16>(args, launch);
    case DType::kFloat16: return merge_add_in_place_as<Half>(args, launch);
  }
}

void features_grad(const FeaturesGradArgs& args, Launch launch) {
  switch (args.dtype) {
    case DType::kFloat32: return features_grad_as<float>(args, launch);
    case DType::kBFloat16: return features_grad_as<BFloat16>(args, launch);
    case DType::kFloat16: return features_grad_as<Half>(args, launch);
  }
}

}  // namespace triptych::cpu
