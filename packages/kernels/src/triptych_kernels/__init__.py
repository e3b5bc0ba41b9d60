from triptych_kernels import reference
from triptych_kernels.availability import unavailable_reason
from triptych_kernels.ops import DecodeCache, PackedMatrix, merge
from triptych_kernels.plan import MergePlan

__all__ = ["DecodeCache", "MergePlan", "PackedMatrix", "merge", "reference", "unavailable_reason"]
