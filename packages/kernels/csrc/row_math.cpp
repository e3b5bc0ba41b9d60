#include "row_math.h"

#include "avx2.h"
#include "row_math_impl.h"

namespace triptych::cpu {

const RowMath& row_math(DType dtype) {
#ifdef TRIPTYCH_AVX2
  if (has_avx2()) return row_math_avx2(dtype);
#endif
  return row_math_of<ScalarLanes>(dtype);
}

}  // namespace triptych::cpu
