// The blocks are split over threads. The loops are compiled for three kinds of processors, and the best one is taken at run time.
#include "packed.h"

#include <algorithm>

#include "cpu_parallel.h"
#include "vectors.h"

namespace triptych::cpu {
namespace {

// `kVectors` registers of `Vector` for each of `kRows` rows: one tile of the result stays in registers.
template <typename Vector, int kRows, int kVectors>
TRIPTYCH_INLINE void tile(float* sums_RW, const float* x_RI, const float* w_IW, std::int64_t I) {
  constexpr int kWidth = kWidthOf<Vector>;
  Vector sums[kRows][kVectors] = {};
  for (std::int64_t begin = 0; begin < I; begin += kPackedInputs) {
    const std::int64_t end = std::min(I, begin + kPackedInputs);
    Vector part[kRows][kVectors] = {};
    for (std::int64_t i = begin; i < end; ++i) {
      const float* w = w_IW + i * kPackedWidth;
      prefetch<kPackedWidth * sizeof(float)>(w, kPackedWidth * sizeof(float));
      Vector weights[kVectors];
      for (int v = 0; v < kVectors; ++v) weights[v] = load<Vector>(w + v * kWidth);
      for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < kVectors; ++v) part[r][v] += x_RI[r * I + i] * weights[v];
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) sums[r][v] += part[r][v];
    }
  }
  for (int r = 0; r < kRows; ++r) __builtin_memcpy(sums_RW + r * kPackedWidth, sums[r], sizeof(sums[r]));
}

// One block for `kRows` rows, tile by tile.
template <typename Vector, int kRows, int kVectors>
TRIPTYCH_INLINE void block_rows(const PackedArgs& args, std::int64_t block, std::int64_t first) {
  constexpr int kTile = kVectors * kWidthOf<Vector>;
  float sums_RW[kRows * kPackedWidth];
  for (std::int64_t column = 0; column < kPackedWidth; column += kTile) {
    tile<Vector, kRows, kVectors>(sums_RW + column, args.x_RI + first * args.I,
                                  args.w_BIW + block * args.I * kPackedWidth + column, args.I);
  }
  const std::int64_t output = block * kPackedWidth;
  const std::int64_t width = std::min(kPackedWidth, args.O - output);
  for (int r = 0; r < kRows; ++r) {
    float* out = args.out_RO + (first + r) * args.O + output;
    for (std::int64_t o = 0; o < width; ++o) {
      out[o] = sums_RW[r * kPackedWidth + o] + (args.bias_O == nullptr ? 0.0f : args.bias_O[output + o]);
    }
  }
}

template <typename Vector, int kRows, int kVectors>
TRIPTYCH_INLINE void blocks(const PackedArgs& args, std::int64_t begin, std::int64_t end) {
  for (std::int64_t block = begin; block < end; ++block) {
    std::int64_t row = 0;
    for (; row + kRows <= args.R; row += kRows) block_rows<Vector, kRows, kVectors>(args, block, row);
    for (; row + 2 <= args.R; row += 2) block_rows<Vector, 2, kVectors>(args, block, row);
    if (row < args.R) block_rows<Vector, 1, kVectors>(args, block, row);
  }
}

using Blocks = void (*)(const PackedArgs&, std::int64_t, std::int64_t);

void plain_blocks(const PackedArgs& args, std::int64_t begin, std::int64_t end) {
  blocks<Four, 2, 4>(args, begin, end);
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) void avx512_blocks(const PackedArgs& args, std::int64_t begin, std::int64_t end) {
  blocks<Sixteen, 8, 2>(args, begin, end);
}

__attribute__((target("avx2,fma"))) void avx2_blocks(const PackedArgs& args, std::int64_t begin, std::int64_t end) {
  blocks<Eight, 4, 2>(args, begin, end);
}
#endif

Blocks best_blocks() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return avx512_blocks;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2_blocks;
#endif
  return plain_blocks;
}

}  // namespace

void packed_product(const PackedArgs& args, int num_threads) {
  static const Blocks run = best_blocks();
  const std::int64_t num_blocks = (args.O + kPackedWidth - 1) / kPackedWidth;
  parallel_rows(num_blocks, args.I * kPackedWidth * sizeof(float), num_threads,
                [&](std::int64_t begin, std::int64_t end) { run(args, begin, end); });
}

}  // namespace triptych::cpu
