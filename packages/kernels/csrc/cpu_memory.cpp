#include "cpu_memory.h"

#include <cstring>

#include "avx2.h"

namespace triptych::cpu {

namespace {

// The largest allocation that glibc keeps for reuse; anything above comes fresh from the system and fits no cache.
constexpr std::int64_t kLargeBytes = 32 * 1024 * 1024;

}  // namespace

Copy copy_for(std::int64_t bytes, bool kept) {
  if (bytes < kLargeBytes || !has_avx2()) return Copy::kCached;
  return kept ? Copy::kStreamed : Copy::kFresh;
}

void copy_row(char* to, const char* from, std::int64_t bytes, Copy how) {
#ifdef TRIPTYCH_AVX2
  if (how != Copy::kCached) {
    const std::int64_t blocks = bytes / kAvx2CopyBytes * kAvx2CopyBytes;
    const bool aligned = reinterpret_cast<std::uintptr_t>(to) % 32 == 0;
    (how == Copy::kStreamed && aligned ? stream_avx2 : copy_avx2)(to, from, blocks);
    std::memcpy(to + blocks, from + blocks, bytes - blocks);
    return;
  }
#endif
  (void)how;
  std::memcpy(to, from, bytes);
}

void finish_copies(Copy how) {
#ifdef TRIPTYCH_AVX2
  if (how == Copy::kStreamed) fence_avx2();
#endif
  (void)how;
}

}  // namespace triptych::cpu
