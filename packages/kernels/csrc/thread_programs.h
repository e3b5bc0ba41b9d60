// What one CUDA thread does, for every op; compiled by nvcc for the device and by g++ for the emulator.
//
// A thread is a function of its place in the launch and of nothing else: no shared memory, no barriers, no atomics. So
// walking the threads one after another on the host gives, bit for bit, what the device gives.
// `Unit` is what one thread moves at a time: 16 bytes where addresses and rows allow it, else one element.
#pragma once

#include <cstdint>

#include "elements.h"
#include "merge.h"

namespace triptych::device {

constexpr int kWarp = 32;

struct Thread {
  std::int64_t block;
  std::int64_t num_blocks;
  int thread;
  int num_threads;  // per block, a multiple of kWarp
};

struct alignas(16) Quad {
  std::uint32_t words[4];
};

TRIPTYCH_HD int lane_of(Thread t) { return t.thread % kWarp; }
TRIPTYCH_HD std::int64_t warp_of(Thread t) { return t.block * (t.num_threads / kWarp) + t.thread / kWarp; }
TRIPTYCH_HD std::int64_t num_warps_of(Thread t) { return t.num_blocks * (t.num_threads / kWarp); }

// A load of what is read once and not written by this kernel: it need not stay in the first-level cache.
template <typename Unit>
TRIPTYCH_HD Unit load_once(const Unit* from) {
  return *from;
}

#ifdef __CUDA_ARCH__
template <>
TRIPTYCH_HD Quad load_once<Quad>(const Quad* from) {
  Quad quad;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(quad.words[0]), "=r"(quad.words[1]), "=r"(quad.words[2]), "=r"(quad.words[3])
      : "l"(from));
  return quad;
}
#endif

template <typename Unit>
TRIPTYCH_HD const Unit* row_at(const void* rows, std::int64_t row, std::int64_t stride) {
  return reinterpret_cast<const Unit*>(static_cast<const char*>(rows) + row * stride);
}

template <typename Unit>
TRIPTYCH_HD Unit* row_at(void* rows, std::int64_t row, std::int64_t stride) {
  return reinterpret_cast<Unit*>(static_cast<char*>(rows) + row * stride);
}

template <typename Unit>
TRIPTYCH_HD void clear_row(Unit* to, std::int64_t num_units, int lane) {
#pragma unroll 1
  for (std::int64_t c = lane; c < num_units; c += kWarp) to[c] = Unit{};
}

// One warp copies a row, each thread with four loads under way before the first store.
template <typename Unit>
TRIPTYCH_HD void copy_row(Unit* to, const Unit* from, std::int64_t num_units, int lane) {
  std::int64_t c = lane;
#pragma unroll 1
  for (; c + 3 * kWarp < num_units; c += 4 * kWarp) {
    Unit units[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) units[i] = load_once(from + c + i * kWarp);
#pragma unroll
    for (int i = 0; i < 4; ++i) to[c + i * kWarp] = units[i];
  }
#pragma unroll 1
  for (; c < num_units; c += kWarp) to[c] = load_once(from + c);
}

template <typename Unit>
TRIPTYCH_HD void merge(const MergeArgs& args, Thread t) {
  const std::int64_t num_units = args.row_bytes / static_cast<std::int64_t>(sizeof(Unit));
#pragma unroll 1
  for (std::int64_t r = warp_of(t); r < args.R; r += num_warps_of(t)) {
    const std::int64_t feature = args.index[r];
    const Unit* from = feature >= 0 ? row_at<Unit>(args.features_ND, feature, args.features_stride)
                                    : row_at<Unit>(args.embeds_RD, r, args.row_bytes);
    copy_row(row_at<Unit>(args.out_RD, r, args.row_bytes), from, num_units, lane_of(t));
  }
}

template <typename Unit>
TRIPTYCH_HD void text_grad(const TextGradArgs& args, Thread t) {
  const std::int64_t num_units = args.row_bytes / static_cast<std::int64_t>(sizeof(Unit));
#pragma unroll 1
  for (std::int64_t r = warp_of(t); r < args.R; r += num_warps_of(t)) {
    Unit* to = row_at<Unit>(args.out_RD, r, args.row_bytes);
    if (args.index[r] >= 0) {
      clear_row(to, num_units, lane_of(t));
    } else {
      copy_row(to, row_at<Unit>(args.grad_RD, r, args.row_bytes), num_units, lane_of(t));
    }
  }
}

// The elements of a unit as float32.
template <typename Unit, typename T>
struct Floats {
  static constexpr int kCount = sizeof(Unit) / sizeof(T);
  float values[kCount];

  TRIPTYCH_HD static Floats of(const Unit& unit) {
    T elements[kCount];
    memcpy(elements, &unit, sizeof unit);
    Floats floats;
#pragma unroll
    for (int i = 0; i < kCount; ++i) floats.values[i] = to_float(elements[i]);
    return floats;
  }

  TRIPTYCH_HD void add(const Floats& other) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] += other.values[i];
  }

  TRIPTYCH_HD Unit rounded() const {
    T elements[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) elements[i] = from_float<T>(values[i]);
    Unit unit;
    memcpy(&unit, elements, sizeof unit);
    return unit;
  }
};

// Where a thread of features_grad works: a warp takes 32 units of one feature row at a time.
struct FeatureChunk {
  std::int64_t feature;
  std::int64_t unit;  // of this thread; may lie past the row's end
};

TRIPTYCH_HD std::int64_t chunks_per_row(std::int64_t num_units) { return (num_units + kWarp - 1) / kWarp; }

TRIPTYCH_HD FeatureChunk feature_chunk(std::int64_t item, std::int64_t chunks, int lane) {
  return FeatureChunk{item / chunks, item % chunks * kWarp + lane};
}

template <typename Unit, typename T>
TRIPTYCH_HD void features_grad(const FeaturesGradArgs& args, Thread t) {
  using Sum = Floats<Unit, T>;
  const Index index = split_index(args.index, args.R, args.N);
  const std::int64_t row_bytes = args.D * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t num_units = row_bytes / static_cast<std::int64_t>(sizeof(Unit));
  const std::int64_t chunks = chunks_per_row(num_units);
#pragma unroll 1
  for (std::int64_t item = warp_of(t); item < args.N * chunks; item += num_warps_of(t)) {
    const FeatureChunk at = feature_chunk(item, chunks, lane_of(t));
    if (at.unit >= num_units) continue;
    Unit* to = row_at<Unit>(args.out_ND, at.feature, row_bytes) + at.unit;
    std::int32_t slot = index.offsets_N1[at.feature];
    const std::int32_t end = index.offsets_N1[at.feature + 1];
    if (slot == end) {
      memset(to, 0, sizeof(Unit));
      continue;
    }
    const Unit first = load_once(row_at<Unit>(args.grad_RD, index.positions_S[slot], row_bytes) + at.unit);
    if (++slot == end) {  // a copy keeps every bit, also of -0.0 and NaN
      *to = first;
      continue;
    }
    Sum sum = Sum::of(first);
#pragma unroll 4
    for (; slot < end; ++slot) {
      sum.add(Sum::of(load_once(row_at<Unit>(args.grad_RD, index.positions_S[slot], row_bytes) + at.unit)));
    }
    *to = sum.rounded();
  }
}

}  // namespace triptych::device
