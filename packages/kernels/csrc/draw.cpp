// The words are made and compared in vectors; the loops are compiled for three kinds of processors, and the best one is
// taken at run time.
#include "draw.h"

#include <algorithm>
#include <cmath>

#include "vectors.h"

namespace triptych::cpu {
namespace {

constexpr std::int64_t kWords = kGeneratorWords;
constexpr std::int64_t kMiddle = 397;
constexpr std::int64_t kIds = 1024;  // looked at together
constexpr std::int64_t kStride = 64;
constexpr float kSlack = 1.0f + 1e-5f;  // more than rounding takes from a quotient

// One recurrence of MT19937 (Matsumoto and Nishimura, 1998).
TRIPTYCH_INLINE std::uint32_t twist(std::uint32_t high, std::uint32_t low, std::uint32_t other) {
  const std::uint32_t mixed = (high & 0x80000000u) | (low & 0x7fffffffu);
  return other ^ (mixed >> 1) ^ ((low & 1u) * 0x9908b0dfu);
}

TRIPTYCH_INLINE std::uint32_t tempered(std::uint32_t y) {
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680u;
  y ^= (y << 15) & 0xefc60000u;
  return y ^ (y >> 18);
}

struct Engine {
  std::uint32_t words[kWords];
  std::int64_t next;  // kWords: new ones are made first
};

TRIPTYCH_INLINE void make_words(std::uint32_t* s) {
  for (std::int64_t k = 0; k < kWords - kMiddle; ++k) s[k] = twist(s[k], s[k + 1], s[k + kMiddle]);
  for (std::int64_t k = kWords - kMiddle; k < kWords - 1; ++k) s[k] = twist(s[k], s[k + 1], s[k + kMiddle - kWords]);
  s[kWords - 1] = twist(s[kWords - 1], s[0], s[kMiddle - 1]);
}

TRIPTYCH_INLINE void skip(Engine& engine, std::int64_t count) {
  while (count > 0) {
    if (engine.next == kWords) {
      make_words(engine.words);
      engine.next = 0;
    }
    const std::int64_t part = std::min(count, kWords - engine.next);
    engine.next += part;
    count -= part;
  }
}

TRIPTYCH_INLINE void take(Engine& engine, std::uint32_t* __restrict to, std::int64_t count) {
  while (count > 0) {
    if (engine.next == kWords) {
      make_words(engine.words);
      engine.next = 0;
    }
    const std::int64_t part = std::min(count, kWords - engine.next);
    const std::uint32_t* from = engine.words + engine.next;
    for (std::int64_t k = 0; k < part; ++k) to[k] = tempered(from[k]);
    engine.next += part;
    to += part;
    count -= part;
  }
}

struct Greatest {
  float value = 0.0f;
  std::int64_t id = 0;
  bool is_number = true;
};

// The ids of one part of a row, from their words.
TRIPTYCH_INLINE void look(const float* p, const std::uint32_t* words, std::int64_t first, std::int64_t count,
                          Greatest& greatest) {
  for (std::int64_t begin = 0; begin < count; begin += kStride) {
    const std::int64_t end = std::min(count, begin + kStride);
    // The upper 21 bits of u alone: not above u, and exact in a float.
    std::int32_t reached = 0, wrong = 0;
    const float value = greatest.value * 0x1p-21f;
    for (std::int64_t k = begin; k < end; ++k) {
      const float least = static_cast<float>(static_cast<std::int32_t>(words[2 * k] & 0x1fffffu));
      reached |= p[k] * kSlack >= value * least;
      wrong |= !(p[k] >= 0.0f);
    }
    if (wrong) greatest.is_number = false;
    if (!reached) continue;
    for (std::int64_t k = begin; k < end; ++k) {
      const std::uint64_t bits = (static_cast<std::uint64_t>(words[2 * k] & 0x1fffffu) << 32) | words[2 * k + 1];
      const double u = static_cast<double>(bits) * 0x1p-53;
      if (!(p[k] > 0.0f) || p[k] * kSlack < greatest.value * static_cast<float>(u)) continue;
      const float found = p[k] / static_cast<float>(-std::log1p(-u));
      if (found > greatest.value) {
        greatest.value = found;
        greatest.id = first + k;
      }
    }
  }
}

TRIPTYCH_INLINE bool draw_rows(const DrawArgs& args, Engine& engine) {
  bool is_number = true;
  std::uint32_t words[2 * kIds];
  std::int64_t r = 0;
  for (std::int64_t b = 0; b < args.B; ++b) {
    if (r == args.R || args.rows_R[r] != b) {
      skip(engine, 2 * args.V);
      continue;
    }
    Greatest greatest;
    for (std::int64_t v = 0; v < args.V; v += kIds) {
      const std::int64_t count = std::min(kIds, args.V - v);
      take(engine, words, 2 * count);
      look(args.p_RV + r * args.V + v, words, v, count, greatest);
    }
    is_number &= greatest.is_number;
    args.ids_R[r++] = greatest.id;
  }
  return is_number;
}

using Draw = bool (*)(const DrawArgs&, Engine&);

bool plain_draw(const DrawArgs& args, Engine& engine) { return draw_rows(args, engine); }

#if defined(__x86_64__)
__attribute__((target("avx512f"))) bool avx512_draw(const DrawArgs& args, Engine& engine) {
  return draw_rows(args, engine);
}

__attribute__((target("avx2"))) bool avx2_draw(const DrawArgs& args, Engine& engine) {
  return draw_rows(args, engine);
}
#endif

Draw best_draw() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return avx512_draw;
  if (__builtin_cpu_supports("avx2")) return avx2_draw;
#endif
  return plain_draw;
}

}  // namespace

bool draw(const DrawArgs& args) {
  static const Draw run = best_draw();
  GeneratorState& state = *args.state;
  Engine engine;
  std::copy(state.words, state.words + kWords, engine.words);
  engine.next = state.left == 1 ? kWords : static_cast<std::int64_t>(state.next);
  const bool is_number = run(args, engine);
  std::copy(engine.words, engine.words + kWords, state.words);
  state.next = static_cast<std::uint64_t>(engine.next);
  state.left = engine.next == kWords ? 1 : static_cast<std::int32_t>(kWords + 1 - engine.next);
  return is_number;
}

}  // namespace triptych::cpu
