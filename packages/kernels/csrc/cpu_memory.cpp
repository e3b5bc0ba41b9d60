#include "cpu_memory.h"

#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "avx2.h"

namespace triptych::cpu {

namespace {

// The largest allocation that glibc keeps for reuse; anything above comes fresh from the system and fits no cache.
constexpr std::int64_t kLargeBytes = 32 * 1024 * 1024;

constexpr std::uintptr_t kHugeBytes = 2 * 1024 * 1024;

// A part takes 2 to 3 ms in huge pages, about 5 ms in small ones, and 14 ms in huge ones that a host has to find first.
constexpr std::int64_t kPartBytes = 4 * kHugeBytes;
constexpr std::int64_t kSlowestPart = 7'000'000;

std::int64_t thread_nanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

void ask_for_huge_pages(void* to, std::int64_t bytes) {
#ifdef MADV_HUGEPAGE
  const std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(to);
  const std::uintptr_t first = (begin + kHugeBytes - 1) / kHugeBytes * kHugeBytes;
  const std::uintptr_t last = (begin + bytes) / kHugeBytes * kHugeBytes;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

Copy copy_into(std::int64_t bytes) {
  return bytes >= kLargeBytes && has_avx2() ? Copy::kFresh : Copy::kCached;
}

FreshPages::FreshPages(void* to, std::int64_t bytes)
    : begin_(static_cast<const char*>(to)), end_(begin_ + bytes), asked_(begin_), asks_(bytes >= kLargeBytes) {}

void FreshPages::ask(const char* row) {
  const std::int64_t now = thread_nanoseconds();
  if (began_ != 0 && now - began_ > kSlowestPart) {
    asks_ = false;
    return;
  }
  began_ = now;
  const char* page = reinterpret_cast<const char*>(reinterpret_cast<std::uintptr_t>(row) / kHugeBytes * kHugeBytes);
  asked_ = std::min(page + kPartBytes, end_);
  const char* first = std::max(page, begin_);
  ask_for_huge_pages(const_cast<char*>(first), asked_ - first);
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
