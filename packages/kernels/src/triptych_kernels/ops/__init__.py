from triptych_kernels.ops.decode import DecodeCache
from triptych_kernels.ops.merge import merge
from triptych_kernels.ops.packed import PackedMatrix

__all__ = ["DecodeCache", "PackedMatrix", "merge"]
