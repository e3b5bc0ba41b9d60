// Attention of one new token for each of some rows, on the CPU only. Rows of a prompt read its keys and values once.
//
//   out[r, h] = softmax(scale query[r, h] . [prompt keys, own keys of the row]) [prompt values, own values of the row]
//
// Letters: R rows, H query heads, K key heads (H is a multiple of K: query heads with the same h / (H / K) share a key
// head), D width, V = D rounded up to a multiple of kValueUnit, P prompts, T tokens of a prompt, S slots of rows,
// N tokens of every row so far with the new one, C tokens that fit. Keys lie in blocks of W = kKeyBlock tokens,
// dimension by dimension: B = ceil(T / W) blocks. Values lie token by token, with zeros after the width.
//
// Keys are taken kKeyPart at a time. Each part gives a softmax of its own in float32, and the parts are joined by their
// greatest scores and sums, in the order of the keys. So a row's results have the same bits for every number of rows
// and of threads. No scores of more than a part exist.
#pragma once

#include <cstdint>

#include "elements.h"

namespace triptych::cpu {

constexpr std::int64_t kKeyBlock = 64;
constexpr std::int64_t kKeyPart = 256;
constexpr std::int64_t kValueUnit = 16;

struct DecodePrompt {  // six numbers of 64 bits in a buffer of Python's
  std::int64_t keys_KBDW;
  std::int64_t values_KTV;
  std::int64_t head_stride;   // elements from one key head's values to the next
  std::int64_t token_stride;  // elements from one token's values to the next
  std::int64_t T;
  std::int64_t R;  // its rows, which follow those of the prompt before
};

struct DecodeArgs {
  void* out_RHD;               // contiguous, newly allocated
  const void* query_RHD;       // contiguous, as all others
  const void* new_keys_RKD;    // written into the row's slot as token N - 1
  const void* new_values_RKD;
  void* keys_SKBDW;            // B = ceil(C / W)
  void* values_SKCV;             // zeros after the width, too
  const std::int64_t* slots_R;  // the slot of each row
  const DecodePrompt* prompts_P;
  std::int64_t R;
  std::int64_t H;
  std::int64_t K;
  std::int64_t D;
  std::int64_t P;
  std::int64_t N;
  std::int64_t C;
  float scale;
  DType dtype;  // of all tensors: kFloat32 or kBFloat16
};

void decode_attention(const DecodeArgs& args, int num_threads);

}  // namespace triptych::cpu
