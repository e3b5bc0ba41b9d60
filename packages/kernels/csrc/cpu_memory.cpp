#include "cpu_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>

#include "avx2.h"

namespace triptych::cpu {

namespace {

// The largest allocation that glibc keeps for reuse; anything above comes fresh from the system and fits no cache.
constexpr std::int64_t kLargeBytes = 32 * 1024 * 1024;

constexpr std::uintptr_t kHugeBytes = 2 * 1024 * 1024;

}  // namespace

void ask_for_huge_pages(void* to, std::int64_t bytes) {
#ifdef MADV_HUGEPAGE
  const std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(to);
  const std::uintptr_t first = (begin + kHugeBytes - 1) / kHugeBytes * kHugeBytes;
  const std::uintptr_t last = (begin + bytes) / kHugeBytes * kHugeBytes;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

Copy copy_into(void* to, std::int64_t bytes) {
  if (bytes < kLargeBytes) return Copy::kCached;
  ask_for_huge_pages(to, bytes);
  return has_avx2() ? Copy::kFresh : Copy::kCached;
}

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
