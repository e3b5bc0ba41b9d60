// Rows in memory: addressing, and copies into small and into large new buffers.
#pragma once

#include <cstdint>

namespace triptych::cpu {

inline const char* row_of(const void* rows, std::int64_t row, std::int64_t stride) {
  return static_cast<const char*>(rows) + row * stride;
}

inline char* row_of(void* rows, std::int64_t row, std::int64_t stride) {
  return static_cast<char*>(rows) + row * stride;
}

// A hint for memory that is not written yet: it changes nothing where the system has no huge pages, gives none, or has
// them everywhere.
void ask_for_huge_pages(void* to, std::int64_t bytes);

enum class Copy {
  kCached,  // the destination fits into the cache: memcpy
  kFresh,   // the destination is large and was never written: each page faults in, which slows memcpy's long moves most
};

// How to write the new buffer `to` of `bytes` in all. A large one is asked for in huge pages: fewer faults.
Copy copy_into(void* to, std::int64_t bytes);

void copy_row(char* to, const char* from, std::int64_t bytes, Copy how);

}  // namespace triptych::cpu
