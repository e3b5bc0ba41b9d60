from triptych_kernels.ops.decode import DecodeCache
from triptych_kernels.ops.draw import draw, draws_as_torch
from triptych_kernels.ops.merge import merge
from triptych_kernels.ops.packed import PackedMatrix
from triptych_kernels.ops.rows import row_norm

__all__ = ["DecodeCache", "PackedMatrix", "draw", "draws_as_torch", "merge", "row_norm"]
