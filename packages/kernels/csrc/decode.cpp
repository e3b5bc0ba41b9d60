// A task is one part of a prompt's keys for all its rows, or one part of a row's own keys, for one key head. Tasks are
// split over threads. The loops are compiled for three kinds of processors, and the best one is taken at run time.
#include "decode.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "cpu_parallel.h"
#include "decode_math.h"

namespace triptych::cpu {
namespace {

constexpr std::int64_t kQueries = 32;  // a task takes so many at a time, so that their scores stay in the cache

// One part of some keys, for queries that follow one another as (row, query head of the key head).
struct Task {
  const void* keys_BDW;
  const void* values_TV;
  std::int64_t token_stride;
  std::int64_t num_keys;
  std::int64_t first_row;
  std::int64_t num_rows;
  std::int64_t key_head;
  std::int64_t part;  // its number among the parts of these rows
  bool has_new;       // its last key is the new token of its one row
};

// What the parts of every row and head found: the greatest score, the sum of exponentials, and the sum of values.
struct Parts {
  std::int64_t num_parts;
  std::unique_ptr<float[]> greatest_RHP;
  std::unique_ptr<float[]> sums_RHP;
  std::unique_ptr<float[]> values_RHPV;
};

template <typename T>
TRIPTYCH_INLINE void write_new(const DecodeArgs& args, const Task& task) {
  const std::int64_t from = (task.first_row * args.K + task.key_head) * args.D, token = task.num_keys - 1;
  const T* key = static_cast<const T*>(args.new_keys_RKD) + from;
  T* keys = static_cast<T*>(const_cast<void*>(task.keys_BDW)) + token / kKeyBlock * args.D * kKeyBlock;
  for (std::int64_t d = 0; d < args.D; ++d) keys[d * kKeyBlock + token % kKeyBlock] = key[d];
  T* values = static_cast<T*>(const_cast<void*>(task.values_TV)) + token * task.token_stride;
  std::copy_n(static_cast<const T*>(args.new_values_RKD) + from, args.D, values);
}

TRIPTYCH_INLINE std::int64_t value_width(const DecodeArgs& args) {
  return (args.D + kValueUnit - 1) / kValueUnit * kValueUnit;
}

// The place of a query's result among the parts.
TRIPTYCH_INLINE std::int64_t place_of(const DecodeArgs& args, const Task& task, const Parts& parts,
                                      std::int64_t query) {
  const std::int64_t Q = args.H / args.K;
  return ((task.first_row + query / Q) * args.H + task.key_head * Q + query % Q) * parts.num_parts + task.part;
}

template <typename Vector, typename T, int kRows, int kVectors>
TRIPTYCH_INLINE void run_queries(const DecodeArgs& args, const Task& task, const Parts& parts, std::int64_t first,
                                 std::int64_t queries, float* queries_QD, float* scores_QK, float* found_QV) {
  const std::int64_t D = args.D, V = value_width(args);
  for (std::int64_t q = 0; q < queries; ++q) {
    const std::int64_t from = place_of(args, task, parts, first + q) / parts.num_parts * D;
    for (std::int64_t d = 0; d < D; ++d) {
      queries_QD[q * D + d] = to_float(static_cast<const T*>(args.query_RHD)[from + d]) * args.scale;
    }
  }
  const T* keys = static_cast<const T*>(task.keys_BDW);
  for (std::int64_t k = 0; k < task.num_keys; k += kKeyBlock) {
    product<Vector, T, kRows, kVectors>(scores_QK + k, kKeyPart, queries_QD, D, keys + k * D, kKeyBlock, D, queries,
                                        kKeyBlock);
  }
  for (std::int64_t q = 0; q < queries; ++q) {
    const std::int64_t place = place_of(args, task, parts, first + q);
    softmax<Vector>(scores_QK + q * kKeyPart, task.num_keys, &parts.greatest_RHP[place], &parts.sums_RHP[place]);
  }
  product<Vector, T, kRows, kVectors>(found_QV, V, scores_QK, kKeyPart, static_cast<const T*>(task.values_TV),
                                      task.token_stride, task.num_keys, queries, V);
  for (std::int64_t q = 0; q < queries; ++q) {
    std::copy_n(found_QV + q * V, V, &parts.values_RHPV[place_of(args, task, parts, first + q) * V]);
  }
}

template <typename Vector, typename T, int kRows, int kVectors, int kVectorsOfFew>
TRIPTYCH_INLINE void run(const DecodeArgs& args, const Task& task, const Parts& parts) {
  static thread_local std::vector<float> scratch;
  scratch.resize(kQueries * (args.D + value_width(args) + kKeyPart));
  float* scores_QK = scratch.data();
  float* queries_QD = scores_QK + kQueries * kKeyPart;
  float* found_QV = queries_QD + kQueries * args.D;
  if (task.has_new) write_new<T>(args, task);
  const std::int64_t queries = task.num_rows * (args.H / args.K);
  for (std::int64_t first = 0; first < queries; first += kQueries) {
    const std::int64_t now = std::min(kQueries, queries - first);
    if (now <= kFew) {
      run_queries<Vector, T, kFew, kVectorsOfFew>(args, task, parts, first, now, queries_QD, scores_QK, found_QV);
    } else {
      run_queries<Vector, T, kRows, kVectors>(args, task, parts, first, now, queries_QD, scores_QK, found_QV);
    }
  }
}

using Run = void (*)(const DecodeArgs&, const Task&, const Parts&);

template <typename T>
void plain_run(const DecodeArgs& args, const Task& task, const Parts& parts) {
  run<Four, T, 2, 4, 2>(args, task, parts);
}

#if defined(__x86_64__)
template <typename T>
__attribute__((target("avx512f,avx512bw"))) void avx512_run(const DecodeArgs& args, const Task& task,
                                                            const Parts& parts) {
  run<Sixteen, T, 8, 2, 4>(args, task, parts);
}

template <typename T>
__attribute__((target("avx2,fma"))) void avx2_run(const DecodeArgs& args, const Task& task, const Parts& parts) {
  run<Eight, T, 4, 2, 2>(args, task, parts);
}
#endif

template <typename T>
Run best_run() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) return avx512_run<T>;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2_run<T>;
#endif
  return plain_run<T>;
}

std::int64_t parts_of(std::int64_t keys) { return (keys + kKeyPart - 1) / kKeyPart; }

template <typename T>
std::vector<Task> tasks_of(const DecodeArgs& args, std::vector<std::int64_t>& parts_R) {
  std::vector<Task> tasks;
  std::int64_t row = 0;
  for (const DecodePrompt* prompt = args.prompts_P; prompt < args.prompts_P + args.P; ++prompt) {
    const std::int64_t parts = parts_of(prompt->T), blocks = (prompt->T + kKeyBlock - 1) / kKeyBlock;
    for (std::int64_t k = 0; k < args.K && prompt->R > 0; ++k) {
      const T* keys = reinterpret_cast<const T*>(prompt->keys_KBDW) + k * blocks * args.D * kKeyBlock;
      const T* values = reinterpret_cast<const T*>(prompt->values_KTV) + k * prompt->head_stride;
      for (std::int64_t part = 0; part < parts; ++part) {
        const std::int64_t first = part * kKeyPart;
        tasks.push_back({keys + first * args.D, values + first * prompt->token_stride, prompt->token_stride,
                         std::min(kKeyPart, prompt->T - first), row, prompt->R, k, part, false});
      }
    }
    for (const std::int64_t end = row + prompt->R; row < end; ++row) parts_R[row] = parts;
  }
  const std::int64_t own = parts_of(args.N), width = value_width(args);
  const std::int64_t room = (args.C + kKeyBlock - 1) / kKeyBlock * kKeyBlock;
  for (row = 0; row < args.R; ++row) {
    for (std::int64_t k = 0; k < args.K; ++k) {
      const std::int64_t slot = args.slots_R[row] * args.K + k;
      const T* keys = static_cast<const T*>(args.keys_SKBDW) + slot * room * args.D;
      const T* values = static_cast<const T*>(args.values_SKCV) + slot * args.C * width;
      for (std::int64_t part = 0; part < own; ++part) {
        const std::int64_t first = part * kKeyPart;
        tasks.push_back({keys + first * args.D, values + first * width, width, std::min(kKeyPart, args.N - first), row,
                         1, k, parts_R[row] + part, part + 1 == own});
      }
    }
    parts_R[row] += own;
  }
  return tasks;
}

// Joins the parts of one row's head.
template <typename T>
void join(const DecodeArgs& args, const Parts& parts, std::int64_t head, std::int64_t num_parts, float* sums_D) {
  const float* greatest = &parts.greatest_RHP[head * parts.num_parts];
  const float* values = &parts.values_RHPV[head * parts.num_parts * value_width(args)];
  const float most = *std::max_element(greatest, greatest + num_parts);
  float sum = 0.0f;
  std::fill_n(sums_D, args.D, 0.0f);
  for (std::int64_t part = 0; part < num_parts; ++part) {
    const float weight = std::exp(greatest[part] - most);
    sum += weight * parts.sums_RHP[head * parts.num_parts + part];
    for (std::int64_t d = 0; d < args.D; ++d) sums_D[d] += weight * values[part * value_width(args) + d];
  }
  T* out = static_cast<T*>(args.out_RHD) + head * args.D;
  for (std::int64_t d = 0; d < args.D; ++d) out[d] = from_float<T>(sums_D[d] / sum);
}

template <typename T>
void attend(const DecodeArgs& args, int num_threads) {
  static const Run run_task = best_run<T>();
  std::vector<std::int64_t> parts_R(args.R);
  const std::vector<Task> tasks = tasks_of<T>(args, parts_R);
  const std::int64_t most = args.R == 0 ? 0 : *std::max_element(parts_R.begin(), parts_R.end());
  const std::int64_t places = args.R * args.H * most;
  const Parts parts{most, std::unique_ptr<float[]>(new float[places]), std::unique_ptr<float[]>(new float[places]),
                    std::unique_ptr<float[]>(new float[places * value_width(args)])};
  parallel_tasks(static_cast<std::int64_t>(tasks.size()), 2 * kKeyPart * args.D * sizeof(T), num_threads,
                 [&](std::int64_t task) { run_task(args, tasks[task], parts); });
  parallel_rows(args.R * args.H, most * args.D * sizeof(float), num_threads,
                [&](std::int64_t begin, std::int64_t end) {
                  std::vector<float> sums_D(args.D);
                  for (std::int64_t head = begin; head < end; ++head) {
                    join<T>(args, parts, head, parts_R[head / args.H], sums_D.data());
                  }
                });
}

}  // namespace

void decode_attention(const DecodeArgs& args, int num_threads) {
  args.dtype == DType::kBFloat16 ? attend<BFloat16>(args, num_threads) : attend<float>(args, num_threads);
}

}  // namespace triptych::cpu
