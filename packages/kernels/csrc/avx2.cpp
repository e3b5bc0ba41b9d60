// Rows on x86 processors with AVX2 and F16C; this file alone is compiled with those instructions switched on.
#include "avx2.h"

#include <immintrin.h>

#include "row_math_impl.h"

namespace triptych::cpu {
namespace {

struct EightFloats {
  using Vector = __m256;
  static constexpr std::int64_t kWidth = 8;
  static Vector load_sum(const float* from) { return _mm256_load_ps(from); }
  static void store_sum(float* to, Vector value) { _mm256_store_ps(to, value); }
  static Vector add(Vector left, Vector right) { return _mm256_add_ps(left, right); }
};

template <typename Element>
struct Avx2Lanes;

template <>
struct Avx2Lanes<float> : EightFloats {
  using T = float;
  static Vector load(const T* from) { return _mm256_loadu_ps(from); }
  static void store(T* to, Vector value) { _mm256_storeu_ps(to, value); }
};

template <>
struct Avx2Lanes<BFloat16> : EightFloats {
  using T = BFloat16;
  static Vector load(const T* from) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static void store(T* to, Vector value) {
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    const __m256i kept = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc00000), is_nan);
    const __m256i high = _mm256_srli_epi32(kept, 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(packed));
  }
};

template <>
struct Avx2Lanes<Half> : EightFloats {
  using T = Half;
  static Vector load(const T* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static void store(T* to, Vector value) {
    const __m128i bits = _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bits);
  }
};

}  // namespace

const RowMath& row_math_avx2(DType dtype) { return row_math_of<Avx2Lanes>(dtype); }

void copy_avx2(char* to, const char* from, std::int64_t bytes) {
  for (std::int64_t done = 0; done < bytes; done += kAvx2CopyBytes) {
    __m256i block[4];
    for (int i = 0; i < 4; ++i) block[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + done) + i);
    for (int i = 0; i < 4; ++i) _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + done) + i, block[i]);
  }
}

}  // namespace triptych::cpu
