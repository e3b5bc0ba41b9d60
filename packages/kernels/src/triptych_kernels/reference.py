"""The ops in plain torch: the oracle of the tests, the baseline of the benchmarks, the fallback on other devices."""

import torch
import torch.nn.functional as F

from triptych_kernels.plan import MergePlan


def embed_and_merge(
    weight_VD: torch.Tensor,
    ids: torch.Tensor,
    features_ND: torch.Tensor,
    plan: MergePlan,
    *,
    padding_idx: int | None = None,
) -> torch.Tensor:
    """`features_ND[src]` where the plan has a feature, `weight_VD[ids]` elsewhere."""
    text_ids = torch.where(plan.src < 0, ids, 0)
    return merge(F.embedding(text_ids, weight_VD, padding_idx), features_ND, plan)


def merge(embeds: torch.Tensor, features_ND: torch.Tensor, plan: MergePlan) -> torch.Tensor:
    """`features_ND[src]` where the plan has a feature, `embeds` elsewhere."""
    if plan.num_features == 0:
        return embeds.clone()
    return torch.where((plan.src >= 0)[..., None], features_ND[plan.src.clamp(min=0)], embeds)


def merge_add(hidden: torch.Tensor, features_ND: torch.Tensor, plan: MergePlan) -> torch.Tensor:
    """`hidden + features_ND[src]` where the plan has a feature, `hidden` elsewhere."""
    if plan.num_features == 0:
        return hidden.clone()
    return torch.where((plan.src >= 0)[..., None], hidden + features_ND[plan.src.clamp(min=0)], hidden)


def features_grad(grad: torch.Tensor, plan: MergePlan) -> torch.Tensor:
    """Gradient of the features: float32 sums over each feature's positions in ascending order, rounded once."""
    grad_RD = grad.reshape(-1, grad.shape[-1])
    if plan.num_slots == 0:
        return grad_RD.new_zeros(plan.num_features, grad_RD.shape[1])
    uses_N = plan.offsets.diff()
    sum_ND = grad_RD.new_zeros(plan.num_features, grad_RD.shape[1], dtype=torch.float32)
    for use in range(int(uses_N.max())):
        slot_N = (plan.offsets[:-1] + use).clamp(max=plan.num_slots - 1)
        row_ND = grad_RD[plan.positions[slot_N]].float()
        sum_ND = torch.where((uses_N > use)[:, None], row_ND if use == 0 else sum_ND + row_ND, sum_ND)
    return sum_ND.to(grad.dtype)


def text_grad(grad: torch.Tensor, plan: MergePlan) -> torch.Tensor:
    """Gradient of the embeddings: `grad` at text positions, zero at image positions."""
    return grad.masked_fill((plan.src >= 0)[..., None], 0)
