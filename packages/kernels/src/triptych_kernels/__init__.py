from triptych_kernels import reference
from triptych_kernels.availability import unavailable_reason
from triptych_kernels.ops import DecodeCache, PackedMatrix, draw, draws_as_torch, merge, row_norm
from triptych_kernels.plan import MergePlan

__all__ = [
    "DecodeCache",
    "MergePlan",
    "PackedMatrix",
    "draw",
    "draws_as_torch",
    "merge",
    "reference",
    "row_norm",
    "unavailable_reason",
]
