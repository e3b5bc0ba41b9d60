from triptych_kernels.ops.embed_and_merge import embed_and_merge
from triptych_kernels.ops.merge import merge
from triptych_kernels.ops.merge_add import merge_add

__all__ = ["embed_and_merge", "merge", "merge_add"]
