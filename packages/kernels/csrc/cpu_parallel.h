// Splits rows or tasks over OpenMP threads; one thread opens no parallel region, so a forked worker can always run it.
#pragma once

#include <algorithm>
#include <cstdint>

namespace triptych::cpu {

// A thread that gets less than this costs more to wake than it saves.
constexpr std::int64_t kMinBytesPerThread = 64 * 1024;

// True in a process forked after this library was loaded: a parallel region there waits for threads it does not have.
bool is_forked_child();

template <typename Body>  // body(begin, end) handles the rows [begin, end)
void parallel_rows(std::int64_t num_rows, std::int64_t row_bytes, int num_threads, const Body& body) {
  const std::int64_t useful = std::max<std::int64_t>(1, num_rows * row_bytes / kMinBytesPerThread);
  const std::int64_t threads = is_forked_child() ? 1 : std::min<std::int64_t>({num_threads, useful, num_rows});
  if (threads <= 1) {
    body(std::int64_t{0}, num_rows);
    return;
  }
#pragma omp parallel for num_threads(static_cast<int>(threads)) schedule(static)
  for (std::int64_t part = 0; part < threads; ++part) {
    body(num_rows * part / threads, num_rows * (part + 1) / threads);
  }
}

// body(task) for each of some tasks that take unequal times: a thread takes the next one when it is free.
template <typename Body>
void parallel_tasks(std::int64_t num_tasks, std::int64_t task_bytes, int num_threads, const Body& body) {
  const std::int64_t useful = std::max<std::int64_t>(1, num_tasks * task_bytes / kMinBytesPerThread);
  const std::int64_t threads = is_forked_child() ? 1 : std::min<std::int64_t>({num_threads, useful, num_tasks});
  if (threads <= 1) {
    for (std::int64_t task = 0; task < num_tasks; ++task) body(task);
    return;
  }
#pragma omp parallel for num_threads(static_cast<int>(threads)) schedule(dynamic)
  for (std::int64_t task = 0; task < num_tasks; ++task) body(task);
}

}  // namespace triptych::cpu
