// Which thread program an op runs: the host's half of a launch, shared by the CUDA launchers and the emulator.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "thread_programs.h"

namespace triptych::device {

// Every `start` picks the program's unit and calls `runner.run<Program>(args, num_warps)`, where
// `num_warps` is how many warps have work.

inline bool fits(std::int64_t unit_bytes, std::initializer_list<std::int64_t> strides,
                 std::initializer_list<const void*> addresses) {
  return std::all_of(strides.begin(), strides.end(), [&](std::int64_t stride) { return stride % unit_bytes == 0; }) &&
         std::all_of(addresses.begin(), addresses.end(), [&](const void* address) {
           return reinterpret_cast<std::uintptr_t>(address) % static_cast<std::uintptr_t>(unit_bytes) == 0;
         });
}

// Warps that features_grad has work for: one per 32 units of a feature row.
template <typename Unit>
std::int64_t feature_warps(std::int64_t N, std::int64_t row_bytes) {
  return N * chunks_per_row(row_bytes / static_cast<std::int64_t>(sizeof(Unit)));
}

template <typename Runner>
void start(const MergeArgs& args, Runner& runner) {
  if (fits(16, {args.row_bytes, args.features_stride}, {args.out_RD, args.embeds_RD, args.features_ND})) {
    return runner.template run<merge<Quad>>(args, args.R);
  }
  runner.template run<merge<std::uint16_t>>(args, args.R);
}

template <typename Runner>
void start(const TextGradArgs& args, Runner& runner) {
  if (fits(16, {args.row_bytes}, {args.out_RD, args.grad_RD})) {
    return runner.template run<text_grad<Quad>>(args, args.R);
  }
  runner.template run<text_grad<std::uint16_t>>(args, args.R);
}

// Calls `body` with a value of the element type.
template <typename Body>
void with_element(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kFloat32: return body(float{});
    case DType::kBFloat16: return body(BFloat16{});
    case DType::kFloat16: return body(Half{});
  }
}

template <typename Runner>
void start(const FeaturesGradArgs& args, Runner& runner) {
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    const std::int64_t row_bytes = args.D * static_cast<std::int64_t>(sizeof(T));
    if (fits(16, {row_bytes}, {args.out_ND, args.grad_RD})) {
      return runner.template run<features_grad<Quad, T>>(args, feature_warps<Quad>(args.N, row_bytes));
    }
    runner.template run<features_grad<T, T>>(args, feature_warps<T>(args.N, row_bytes));
  });
}

}  // namespace triptych::device
