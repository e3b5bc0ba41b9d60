"""The ops in plain torch: the oracle of the tests, the baseline of the benchmarks, the fallback on other devices."""

from collections.abc import Sequence

import torch

from triptych_kernels.plan import MergePlan


def merge(embeds_BTD: torch.Tensor, features_ND: torch.Tensor, plan: MergePlan) -> torch.Tensor:
    """Return `features_ND[src]` where the plan has a feature, `embeds_BTD` elsewhere."""
    if plan.num_features == 0:
        return embeds_BTD.clone()
    return torch.where((plan.src >= 0)[..., None], features_ND[plan.src.clamp(min=0)], embeds_BTD)


def features_grad(grad_BTD: torch.Tensor, plan: MergePlan) -> torch.Tensor:
    """Return the gradient of the features: float32 sums over each feature's positions in order, rounded once."""
    grad_RD = grad_BTD.reshape(-1, grad_BTD.shape[-1])
    if plan.num_slots == 0:
        return grad_RD.new_zeros(plan.num_features, grad_RD.shape[1])
    uses_N = plan.offsets.diff()
    sum_ND = grad_RD.new_zeros(plan.num_features, grad_RD.shape[1], dtype=torch.float32)
    for use in range(int(uses_N.max())):
        slot_N = (plan.offsets[:-1] + use).clamp(max=plan.num_slots - 1)
        row_ND = grad_RD[plan.positions[slot_N]].float()
        sum_ND = torch.where((uses_N > use)[:, None], row_ND if use == 0 else sum_ND + row_ND, sum_ND)
    return sum_ND.to(grad_BTD.dtype)


def text_grad(grad_BTD: torch.Tensor, plan: MergePlan) -> torch.Tensor:
    """Return the gradient of the embedded rows: `grad_BTD` at text positions, zero at image positions."""
    return grad_BTD.masked_fill((plan.src >= 0)[..., None], 0)


def decode_attention(
    query: torch.Tensor,
    prompts: Sequence[tuple[torch.Tensor, torch.Tensor]],
    own: tuple[torch.Tensor, torch.Tensor],
    *,
    sizes: Sequence[int],
    scale: float,
) -> torch.Tensor:
    """Return the attention of every row, one after another, to its prompt and its own tokens; rounded once.

    `prompts` are keys and values `[kv_heads, T, width]`, `sizes[p]` rows of each, and `own` those of the rows `[R,
    kv_heads, N, width]`.
    """
    rows = []
    for row, p in enumerate(p for p, size in enumerate(sizes) for _ in range(size)):
        keys, values = (torch.cat([prompts[p][i], own[i][row]], dim=1).double() for i in range(2))
        grouped = query[row].double().unflatten(0, (len(keys), -1))
        weights = (scale * grouped @ keys.transpose(1, 2)).softmax(-1)
        rows.append((weights @ values).flatten(0, 1))
    return torch.stack(rows).to(query.dtype) if rows else torch.empty_like(query)
