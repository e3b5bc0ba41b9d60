"""Other ways to do what the merge ops do, each as its users write it; every function takes a `Batch`."""

from collections.abc import Callable
from types import SimpleNamespace

import torch
import torch.nn.functional as F
import triptych_kernels as tk
from merge_cases import PLACEHOLDER, Batch

Run = Callable[[Batch], torch.Tensor]


def transformers_mask(batch: Batch, embeds_BTD: torch.Tensor, features_SD: torch.Tensor) -> torch.Tensor:
    """The placeholder mask by transformers' own function, with its check of the total."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

    model = SimpleNamespace(config=SimpleNamespace(image_token_id=PLACEHOLDER, video_token_id=PLACEHOLDER - 1))
    return Qwen2_5_VLModel.get_placeholder_mask(model, batch.ids, embeds_BTD, image_features=features_SD)[0]


def masked_scatter_into(batch: Batch, embeds_BTD: torch.Tensor, features_SD: torch.Tensor) -> torch.Tensor:
    return embeds_BTD.masked_scatter(transformers_mask(batch, embeds_BTD, features_SD), features_SD)


def index_copy_into(batch: Batch, embeds_BTD: torch.Tensor, features_SD: torch.Tensor) -> torch.Tensor:
    """In place, on rows the caller has just made."""
    embeds_BTD.view(-1, batch.case.hidden).index_copy_(0, batch.slots, features_SD)
    return embeds_BTD


def where_gather_into(embeds_BTD: torch.Tensor, features_ND: torch.Tensor, src_BT: torch.Tensor) -> torch.Tensor:
    return torch.where((src_BT >= 0)[..., None], features_ND[src_BT.clamp(min=0)], embeds_BTD)


def embed_where_gather(
    weight_VD: torch.Tensor, ids_BT: torch.Tensor, features_ND: torch.Tensor, src_BT: torch.Tensor
) -> torch.Tensor:
    return where_gather_into(F.embedding(ids_BT, weight_VD), features_ND, src_BT)


def sum_rows(grad_RD: torch.Tensor, slots_S: torch.Tensor, feature_S: torch.Tensor, num_features: int) -> torch.Tensor:
    """The backward of a gather: an unordered scatter-add in the gradient's own dtype."""
    return grad_RD.new_zeros(num_features, grad_RD.shape[1]).index_add(0, feature_S, grad_RD[slots_S])


compiled_where_gather = torch.compile(where_gather_into, dynamic=False)
compiled_embed_where_gather = torch.compile(embed_where_gather, dynamic=False)
compiled_sum_rows = torch.compile(sum_rows, dynamic=False)


def _embed(batch: Batch) -> torch.Tensor:
    return F.embedding(batch.ids, batch.weight)


def _grad_rows(batch: Batch) -> torch.Tensor:
    return batch.grad.view(-1, batch.case.hidden)


def _per_feature(batch: Batch, rows_SD: torch.Tensor) -> torch.Tensor:
    """[S, D] in row order -> [N, D], the gradient of `repeated_features`."""
    group = batch.case.group
    return rows_SD if group == 1 else rows_SD.view(group, -1, batch.case.hidden).sum(0)


def _feature_of_slot(batch: Batch) -> torch.Tensor:
    return batch.plan.src.flatten()[batch.slots]


FORWARD_FUSED: dict[str, Run] = {
    "triptych": lambda b: tk.embed_and_merge(b.weight, b.ids, b.features, b.plan),
    "transformers_masked_scatter": lambda b: masked_scatter_into(b, _embed(b), b.repeated_features()),
    "index_copy": lambda b: index_copy_into(b, _embed(b), b.repeated_features()),
    "where_gather": lambda b: embed_where_gather(b.weight, b.ids, b.features, b.plan.src),
    "compiled_where_gather": lambda b: compiled_embed_where_gather(b.weight, b.ids, b.features, b.plan.src),
    "copy_limit": lambda b: b.embeds.clone(),
}
