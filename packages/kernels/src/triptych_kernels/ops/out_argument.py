"""What merge and merge_add share: their checks, and `out=`, in place or a buffer that is kept from call to call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from triptych_kernels.checks import check_inputs
from triptych_kernels.plan import MergePlan

Op = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
InPlaceOp = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]
IntoOp = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], None]
Backward = Callable[[Any, torch.Tensor], tuple]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsOp:
    """The forms of one op on rows, features and a plan's index."""

    new: Op
    """Into a tensor of its own."""
    in_place: InPlaceOp
    into: IntoOp
    backward: Backward


def run(
    op: RowsOp,
    rows: torch.Tensor,
    features_ND: torch.Tensor,
    plan: MergePlan,
    *,
    rows_name: str,
    out: torch.Tensor | None,
) -> torch.Tensor:
    """Check the inputs and call the form that `out` asks for: none, `rows` itself, or another buffer.

    Gradients flow through the in-place form, which writes image positions only. Raises TypeError or ValueError for
    inputs that do not fit one another or the plan, and ValueError for a buffer that does not fit, that shares memory
    with an input, or that would have to carry a gradient.
    """
    check_inputs(
        plan,
        rows_name=rows_name,
        rows=rows,
        features_ND=features_ND,
        batch_name=rows_name,
        batch_shape=rows.shape[:-1],
    )
    if out is None:
        return op.new(rows, features_ND, plan.index)
    _check_buffer(out, rows_name, rows, features_ND)
    needs_grad = torch.is_grad_enabled() and (rows.requires_grad or features_ND.requires_grad)
    same = out is rows or (out.data_ptr() == rows.data_ptr() and out.stride() == rows.stride())
    if not same:
        if needs_grad:
            raise ValueError(
                f"out= cannot carry a gradient; pass out={rows_name}, leave it out, or use torch.no_grad()"
            )
        if _overlap(out, rows):
            raise ValueError(f"out shares memory with {rows_name} but is not the same tensor; use another buffer")
        op.into(out, rows, features_ND, plan.index)
    elif not needs_grad:
        op.in_place(rows, features_ND, plan.index)
    elif torch.compiler.is_compiling():
        rows.copy_(op.new(rows, features_ND, plan.index))  # the compiler writes in place on its own
    else:
        _InPlace.apply(rows, features_ND, plan.index, op.in_place, op.backward)
    return out


class _InPlace(torch.autograd.Function):
    """Backward of an op that overwrites its first argument."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        features: torch.Tensor,
        index: torch.Tensor,
        in_place: InPlaceOp,
        backward: Backward,
    ) -> torch.Tensor:
        in_place(rows, features, index)
        ctx.mark_dirty(rows)
        ctx.save_for_backward(index)
        ctx.num_features, ctx.op_backward = features.shape[0], backward
        return rows

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple:
        return (*ctx.op_backward(ctx, grad), None, None)


def _check_buffer(out: torch.Tensor, rows_name: str, rows: torch.Tensor, features_ND: torch.Tensor) -> None:
    if (out.shape, out.dtype, out.device) != (rows.shape, rows.dtype, rows.device):
        raise ValueError(
            f"out must be like {rows_name}, {list(rows.shape)} {rows.dtype} on {rows.device}; "
            f"got {list(out.shape)} {out.dtype} on {out.device}"
        )
    if not out.is_contiguous():
        raise ValueError(f"out must be contiguous, got strides {out.stride()} for shape {list(out.shape)}")
    if _overlap(out, features_ND):
        raise ValueError("out shares memory with features, which would be overwritten while they are read")


def _overlap(left: torch.Tensor, right: torch.Tensor) -> bool:
    if left.numel() == 0 or right.numel() == 0 or torch.compiler.is_compiling():
        return False
    return _first_byte(left) <= _last_byte(right) and _first_byte(right) <= _last_byte(left)


def _first_byte(tensor: torch.Tensor) -> int:
    return tensor.data_ptr()


def _last_byte(tensor: torch.Tensor) -> int:
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr() + (reach + 1) * tensor.element_size() - 1
