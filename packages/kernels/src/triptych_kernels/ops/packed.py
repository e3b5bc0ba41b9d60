"""Products of a few rows with a float32 matrix on a CPU, which is stored in blocks that are read in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch

from triptych_kernels import _native
from triptych_kernels.memory import in_huge_pages

__all__ = ["PackedMatrix"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedMatrix:
    """Contains a matrix `[O, I]` in blocks of outputs, for products with so few rows that reading it takes longest.

    A row's results have the same bits for every number of rows and of threads. There are no gradients.
    """

    blocks_BIW: torch.Tensor
    """`W` outputs a block; those after the last one are zeros."""
    num_outputs: int

    @classmethod
    def of(cls, weight_OI: torch.Tensor) -> PackedMatrix:
        """Return a copy of a matrix in blocks.

        Raises:
            TypeError: it is not a float32 matrix on a CPU.
        """
        return cls.of_all([weight_OI])[0]

    @classmethod
    def of_all(cls, weights: Sequence[torch.Tensor]) -> list[PackedMatrix]:
        """Return copies of matrices, one after another in the same memory: in the order in which they are multiplied.

        Raises:
            TypeError: one is not a float32 matrix on a CPU.
        """
        width = _native.cpu.packed_width
        shapes = []
        for weight_OI in weights:
            if weight_OI.dim() != 2 or weight_OI.dtype != torch.float32 or weight_OI.device.type != "cpu":
                raise TypeError(
                    f"expected a float32 matrix on a CPU, got {list(weight_OI.shape)} of {weight_OI.dtype} on "
                    f"{weight_OI.device}; multiply with torch.nn.functional.linear there"
                )
            shapes.append((-(-weight_OI.shape[0] // width), weight_OI.shape[1], width))
        whole = in_huge_pages(sum(map(prod, shapes)), dtype=torch.float32)
        parts = whole.split([prod(shape) for shape in shapes])
        return [_packed(weight, part.view(shape)) for weight, part, shape in zip(weights, parts, shapes, strict=True)]

    def product(self, input: torch.Tensor, bias_O: torch.Tensor | None = None) -> torch.Tensor:
        """Compute `torch.nn.functional.linear(input, weight, bias)`: `[..., I]` -> `[..., O]`.

        Raises:
            ValueError: the input or the bias does not fit the matrix.
        """
        num_inputs = self.blocks_BIW.shape[1]
        if input.shape[-1] != num_inputs or input.dtype != torch.float32 or input.device.type != "cpu":
            raise ValueError(
                f"expected an input [..., {num_inputs}] in float32 on a CPU, because the matrix is "
                f"[{self.num_outputs}, {num_inputs}], got {list(input.shape)} in {input.dtype} on {input.device}"
            )
        if bias_O is not None and (bias_O.shape != (self.num_outputs,) or bias_O.dtype != torch.float32):
            raise ValueError(
                f"expected a bias [{self.num_outputs}] in float32, got {list(bias_O.shape)} in {bias_O.dtype}"
            )
        rows = input.contiguous()
        bias = None if bias_O is None else bias_O.contiguous()
        out = rows.new_empty(*rows.shape[:-1], self.num_outputs)
        _native.cpu.packed_product(
            *(out.data_ptr(), rows.data_ptr(), self.blocks_BIW.data_ptr(), 0 if bias is None else bias.data_ptr()),
            *(rows.shape[:-1].numel(), num_inputs, self.num_outputs, torch.get_num_threads()),
        )
        return out


def _packed(weight_OI: torch.Tensor, blocks_BIW: torch.Tensor) -> PackedMatrix:
    num_outputs, width = weight_OI.shape[0], blocks_BIW.shape[2]
    whole = num_outputs // width
    outputs_IO = weight_OI.detach().t()
    blocks_BIW[:whole].copy_(outputs_IO[:, : whole * width].unflatten(1, (whole, width)).transpose(0, 1))
    if whole < len(blocks_BIW):
        blocks_BIW[whole].zero_()[:, : num_outputs - whole * width].copy_(outputs_IO[:, whole * width :])
    return PackedMatrix(blocks_BIW=blocks_BIW, num_outputs=num_outputs)
