#include "cpu_memory.h"

#include <cstring>

#include "avx2.h"

namespace triptych::cpu {

namespace {

// The largest allocation that glibc keeps for reuse; anything above comes fresh from the system and fits no cache.
constexpr std::int64_t kLargeBytes = 32 * 1024 * 1024;

}  // namespace

Copy copy_for(std::int64_t bytes) { return bytes < kLargeBytes || !has_avx2() ? Copy::kCached : Copy::kFresh; }

void copy_row(char* to, const char* from, std::int64_t bytes, Copy how) {
#ifdef TRIPTYCH_AVX2
  if (how == Copy::kFresh) {
    const std::int64_t blocks = bytes / kAvx2CopyBytes * kAvx2CopyBytes;
    copy_avx2(to, from, blocks);
    std::memcpy(to + blocks, from + blocks, bytes - blocks);
    return;
  }
#endif
  (void)how;
  std::memcpy(to, from, bytes);
}

}  // namespace triptych::cpu
