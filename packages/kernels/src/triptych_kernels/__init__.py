from triptych_kernels import reference
from triptych_kernels.availability import unavailable_reason
from triptych_kernels.ops import PackedMatrix, merge
from triptych_kernels.plan import MergePlan

__all__ = ["MergePlan", "PackedMatrix", "merge", "reference", "unavailable_reason"]
