from triptych_kernels.ops.merge import merge
from triptych_kernels.ops.packed import PackedMatrix

__all__ = ["PackedMatrix", "merge"]
