from triptych_kernels import reference
from triptych_kernels.availability import unavailable_reason
from triptych_kernels.ops import embed_and_merge, merge, merge_add
from triptych_kernels.plan import MergePlan

__all__ = ["MergePlan", "embed_and_merge", "merge", "merge_add", "reference", "unavailable_reason"]
