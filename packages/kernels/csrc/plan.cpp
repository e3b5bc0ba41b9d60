#include <algorithm>

#include "merge.h"

namespace triptych {

std::int64_t place_runs(std::int32_t* index, std::int64_t R, const std::int64_t* runs_K3, std::int64_t K) {
  std::fill(index, index + R, -1);
  for (std::int64_t k = 0; k < K; ++k) {
    const std::int64_t first_row = runs_K3[3 * k], num_rows = runs_K3[3 * k + 1], first_feature = runs_K3[3 * k + 2];
    for (std::int64_t i = 0; i < num_rows; ++i) {
      if (index[first_row + i] >= 0) return k;
      index[first_row + i] = static_cast<std::int32_t>(first_feature + i);
    }
  }
  return -1;
}

// A counting sort of the slots by feature: one pass counts, one pass places, rows stay ascending.
void group_slots(std::int32_t* index, std::int64_t R, std::int64_t N) {
  const std::int32_t* src_R = index;
  std::int32_t* offsets_N1 = index + R;
  std::int32_t* positions_S = index + R + N + 1;
  std::fill(offsets_N1, offsets_N1 + N + 1, 0);
  for (std::int64_t r = 0; r < R; ++r) {
    if (src_R[r] >= 0) ++offsets_N1[src_R[r] + 1];
  }
  for (std::int64_t n = 0; n < N; ++n) offsets_N1[n + 1] += offsets_N1[n];
  for (std::int64_t r = 0; r < R; ++r) {
    if (src_R[r] >= 0) positions_S[offsets_N1[src_R[r]]++] = static_cast<std::int32_t>(r);
  }
  // Each offset has moved to the end of its segment, which is the start of the next one.
  for (std::int64_t n = N; n > 0; --n) offsets_N1[n] = offsets_N1[n - 1];
  offsets_N1[0] = 0;
}

}  // namespace triptych
