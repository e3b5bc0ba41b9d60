"""Checks of what `merge` is given; every message names both sides."""

import torch

from triptych_kernels.plan import MergePlan

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""Supported element types and their numbers in the C++ `DType`."""


def check_inputs(embeds_BTD: torch.Tensor, features_ND: torch.Tensor, plan: MergePlan) -> None:
    """Refuse tensors that do not fit one another or the plan.

    Raises TypeError for a dtype, ValueError for a device or a shape.
    """
    if embeds_BTD.dim() != 3 or embeds_BTD.shape[:-1] != plan.shape:
        raise ValueError(
            f"the plan was made for embeds [{plan.shape[0]}, {plan.shape[1]}, D], got {list(embeds_BTD.shape)}"
        )
    if features_ND.dim() != 2 or features_ND.shape[-1] != embeds_BTD.shape[-1]:
        raise ValueError(
            f"features must be [N, {embeds_BTD.shape[-1]}] to fit embeds {list(embeds_BTD.shape)}, "
            f"got {list(features_ND.shape)}"
        )
    if features_ND.shape[0] != plan.num_features:
        raise ValueError(f"the plan was made for {plan.num_features} features, got {features_ND.shape[0]} feature rows")
    if embeds_BTD.dtype != features_ND.dtype:
        raise TypeError(
            f"embeds are {embeds_BTD.dtype}, features are {features_ND.dtype}; cast one to the other's dtype"
        )
    if embeds_BTD.dtype not in DTYPES:
        raise TypeError(f"embeds and features are {embeds_BTD.dtype}, expected float32, bfloat16 or float16")
    if embeds_BTD.device != features_ND.device:
        raise ValueError(
            f"embeds are on {embeds_BTD.device}, features are on {features_ND.device}; move one to the other"
        )
    if embeds_BTD.device != plan.index.device:
        raise ValueError(
            f"embeds are on {embeds_BTD.device}, the plan is on {plan.index.device}; move the plan once with plan.to()"
        )
