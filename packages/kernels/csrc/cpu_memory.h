// Rows in memory: addressing, and copies for buffers of every size.
#pragma once

#include <cstdint>

namespace triptych::cpu {

inline const char* row_of(const void* rows, std::int64_t row, std::int64_t stride) {
  return static_cast<const char*>(rows) + row * stride;
}

inline char* row_of(void* rows, std::int64_t row, std::int64_t stride) {
  return static_cast<char*>(rows) + row * stride;
}

enum class Copy {
  kCached,    // the destination fits the cache, or its reader comes next: memcpy
  kFresh,     // large and never written: each page faults in, and memcpy's long moves suffer most from that
  kStreamed,  // large and written before: stores go past the cache and do not read the destination first
};

// How to write `bytes` in all to a buffer that was written before (`kept`) or has just been allocated.
Copy copy_for(std::int64_t bytes, bool kept);

void copy_row(char* to, const char* from, std::int64_t bytes, Copy how);

// Call on each thread after its last streamed row, before another thread may read.
void finish_copies(Copy how);

}  // namespace triptych::cpu
