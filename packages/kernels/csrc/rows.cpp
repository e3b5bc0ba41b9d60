// The loops are compiled for three kinds of processors, and the best one is taken at run time.
#include "rows.h"

#include <cmath>

#include "vectors.h"

namespace triptych::cpu {
namespace {

// The last numbers of a row, followed by zeros.
template <typename Vector>
TRIPTYCH_INLINE Vector load_part(const float* from, std::int64_t count) {
  Vector value = {};
  __builtin_memcpy(&value, from, count * sizeof(float));
  return value;
}

template <typename Vector>
TRIPTYCH_INLINE float row_scale(const float* x, std::int64_t D, float epsilon) {
  constexpr std::int64_t kWidth = kWidthOf<Vector>;
  Vector squares = {};
  std::int64_t d = 0;
  for (; d + kWidth <= D; d += kWidth) {
    const Vector each = load<Vector>(x + d);
    squares += each * each;
  }
  if (d < D) {
    const Vector each = load_part<Vector>(x + d, D - d);
    squares += each * each;
  }
  float total = 0.0f;
  for (int lane = 0; lane < kWidth; ++lane) total += squares[lane];
  return 1.0f / std::sqrt(total / static_cast<float>(D) + epsilon);
}

template <typename Vector>
TRIPTYCH_INLINE void norm(const RowNormArgs& args) {
  constexpr std::int64_t kWidth = kWidthOf<Vector>;
  for (std::int64_t r = 0; r < args.R; ++r) {
    const float* x = args.x_RD + r * args.D;
    float* out = args.out_RD + r * args.D;
    const float scale = row_scale<Vector>(x, args.D, args.epsilon);
    std::int64_t d = 0;
    for (; d + kWidth <= args.D; d += kWidth) {
      store(out + d, load<Vector>(args.weight_D + d) * (load<Vector>(x + d) * scale));
    }
    for (; d < args.D; ++d) out[d] = args.weight_D[d] * (x[d] * scale);
  }
}

void plain_norm(const RowNormArgs& args) { norm<Four>(args); }

#if defined(__x86_64__)
__attribute__((target("avx512f"))) void avx512_norm(const RowNormArgs& args) { norm<Sixteen>(args); }
__attribute__((target("avx2,fma"))) void avx2_norm(const RowNormArgs& args) { norm<Eight>(args); }
#endif

using Norm = void (*)(const RowNormArgs&);

Norm best_norm() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return avx512_norm;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2_norm;
#endif
  return plain_norm;
}

}  // namespace

void row_norm(const RowNormArgs& args) {
  static const Norm run = best_norm();
  run(args);
}

}  // namespace triptych::cpu
