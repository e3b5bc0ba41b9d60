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

// How to write a new result of `bytes`.
Copy copy_into(std::int64_t bytes);

// The memory of a new result while one thread writes its rows in ascending order. Of a large result, some megabytes at a
// time are asked for in huge pages, for as long as these come fast: they are fewer faults, but the host of a virtual
// machine may have taken free ones back, and then needs milliseconds for each.
class FreshPages {
 public:
  FreshPages(void* to, std::int64_t bytes);

  // Call it before a row is written.
  void reach(const char* row) {
    if (asks_ && row >= asked_) ask(row);
  }

 private:
  void ask(const char* row);

  const char* begin_;
  const char* end_;
  const char* asked_;  // up to here
  bool asks_;
  std::int64_t began_ = 0;  // when the last part was asked for, in nanoseconds of this thread
};

void copy_row(char* to, const char* from, std::int64_t bytes, Copy how);

}  // namespace triptych::cpu
