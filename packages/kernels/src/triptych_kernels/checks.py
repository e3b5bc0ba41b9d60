"""Checks of what the public ops are given; every message names both sides."""

import torch

from triptych_kernels.plan import MergePlan

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""Supported element types and their numbers in the C++ `DType`."""


def check_inputs(
    plan: MergePlan,
    *,
    rows_name: str,
    rows: torch.Tensor,
    features_ND: torch.Tensor,
    batch_name: str,
    batch_shape: torch.Size,
) -> None:
    """Refuse tensors that do not fit one another or the plan.

    `rows` [..., D] are the rows that meet the features, `batch_shape` is what must equal the plan's shape.
    Raises TypeError for a dtype, ValueError for a device or a shape.
    """
    if features_ND.dim() != 2 or features_ND.shape[-1] != rows.shape[-1]:
        raise ValueError(
            f"features must be [N, {rows.shape[-1]}] to fit {rows_name} {list(rows.shape)}, "
            f"got {list(features_ND.shape)}"
        )
    if features_ND.shape[0] != plan.num_features:
        raise ValueError(f"the plan was made for {plan.num_features} features, got {features_ND.shape[0]} feature rows")
    if batch_shape != plan.shape:
        raise ValueError(f"the plan was made for shape {list(plan.shape)}, got {batch_name} of {list(batch_shape)}")
    check_same(rows_name, rows, "features", features_ND)
    if plan.index.device != rows.device:
        raise ValueError(
            f"{rows_name} is on {rows.device}, the plan is on {plan.index.device}; move the plan once with plan.to()"
        )


def check_same(left_name: str, left: torch.Tensor, right_name: str, right: torch.Tensor) -> None:
    """Refuse two tensors of different dtypes or devices, or of a dtype that the kernels do not know."""
    if left.dtype != right.dtype:
        raise TypeError(f"{left_name} is {left.dtype}, {right_name} is {right.dtype}; cast one to the other's dtype")
    if left.dtype not in DTYPES:
        raise TypeError(f"{left_name} and {right_name} are {left.dtype}, expected float32, bfloat16 or float16")
    if left.device != right.device:
        raise ValueError(f"{left_name} is on {left.device}, {right_name} is on {right.device}; move one to the other")
