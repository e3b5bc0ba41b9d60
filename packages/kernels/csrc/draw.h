// Draws a token of each row as torch.multinomial does on a CPU with torch's own random numbers, on the CPU only.
//
//   id[r] = argmax over v of p[r, v] / w[r, v],  w = -log(1 - u) in double, rounded to float
//
// Letters: R rows that are drawn, B rows for which numbers are used up, V ids. The uniform numbers u are those that
// torch's generator (MT19937, two words for a double) would give next, row by row, so that a seed gives the same ids. 1 - u
// is below exp(-u), so w is at least u: p / w is computed only where p / u reaches the greatest value found so far.
#pragma once

#include <cstdint>

namespace triptych::cpu {

constexpr std::int64_t kGeneratorWords = 624;

struct GeneratorState {  // the first part of what torch.get_rng_state() returns
  std::uint64_t seed;
  std::int32_t left;  // words until the next ones are made, and one
  std::int32_t seeded;
  std::uint64_t next;
  std::uint64_t words[kGeneratorWords];
};

struct DrawArgs {
  std::int64_t* ids_R;
  const float* p_RV;           // contiguous
  const std::int64_t* rows_R;  // ascending, below B
  GeneratorState* state;       // goes on by B * V doubles
  std::int64_t R;
  std::int64_t B;
  std::int64_t V;
};

// Returns false if a probability is no number.
bool draw(const DrawArgs& args);

}  // namespace triptych::cpu
