from triptych_kernels.ops.merge import merge

__all__ = ["merge"]
