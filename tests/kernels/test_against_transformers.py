"""The merge next to that of transformers: equal where both are right, and right where that of transformers is not."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from triptych_kernels import MergePlan, merge

modeling = pytest.importorskip("transformers.models.qwen2_5_vl.modeling_qwen2_5_vl")
PLACEHOLDER, VIDEO = 9, 10
PLACES = [(0, 0, [(1, 3)]), (0, 1, [(5, 1)]), (1, 2, [(2, 2)]), (1, 3, [(6, 1)])]
COUNTS = [3, 1, 2, 1]


def masked_scatter_merge(ids_BT: torch.Tensor, embeds_BTD: torch.Tensor, features_ND: torch.Tensor) -> torch.Tensor:
    """What Qwen2_5_VLModel.forward does with its image features."""
    model = SimpleNamespace(config=SimpleNamespace(image_token_id=PLACEHOLDER, video_token_id=VIDEO))
    mask, _ = modeling.Qwen2_5_VLModel.get_placeholder_mask(model, ids_BT, embeds_BTD, image_features=features_ND)
    return embeds_BTD.masked_scatter(mask, features_ND)


def batch_of(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight_VD = torch.randn(11, 64, generator=generator).to(dtype)
    features_ND = torch.randn(7, 64, generator=generator).to(dtype)
    grad_BTD = torch.randn(2, 8, 64, generator=generator).to(dtype)
    p = PLACEHOLDER
    ids_BT = torch.tensor([[1, p, p, p, 2, p, 3, 4], [5, 6, p, p, 7, 1, p, 2]])
    return weight_VD, ids_BT, features_ND, grad_BTD


def test_forward_and_all_gradients_are_bit_equal(dtype: torch.dtype) -> None:
    """Under the model's own lookup of its embeddings, whose weight gets its gradient through both merges."""
    weight_VD, ids_BT, features_ND, grad_BTD = batch_of(dtype)
    ours = [tensor.clone().requires_grad_() for tensor in (weight_VD, features_ND)]
    theirs = [tensor.clone().requires_grad_() for tensor in (weight_VD, features_ND)]
    plan = MergePlan.from_images((2, 8), PLACES, features_per_image=COUNTS)
    merged = merge(F.embedding(ids_BT, ours[0]), ours[1], plan)
    expected = masked_scatter_merge(ids_BT, F.embedding(ids_BT, theirs[0]), theirs[1])
    assert torch.equal(merged, expected)
    merged.backward(grad_BTD)
    expected.backward(grad_BTD)
    assert torch.equal(ours[0].grad, theirs[0].grad)
    assert torch.equal(ours[1].grad, theirs[1].grad)


def test_a_sampled_placeholder_shifts_their_features_and_not_ours() -> None:
    """Row 0 is cut by one token, row 1 has sampled one placeholder: their total matches, and an image moves."""
    weight_VD, ids_BT, features_ND, _ = batch_of(torch.float32)
    ids_BT[0, 5], ids_BT[1, 5] = 2, PLACEHOLDER
    embeds_BTD = F.embedding(ids_BT, weight_VD)
    shifted = masked_scatter_merge(ids_BT, embeds_BTD, features_ND)
    assert torch.equal(shifted[1, 2], features_ND[3])  # the last row of the image before
    with pytest.raises(ValueError, match="row 0, image 1: 0 placeholder tokens, but its image has 1 feature rows"):
        MergePlan.from_images((2, 8), [PLACES[0], (0, 1, []), *PLACES[2:]], features_per_image=COUNTS)
    merged = merge(embeds_BTD, features_ND, MergePlan.from_images((2, 8), PLACES, features_per_image=COUNTS))
    assert torch.equal(merged[1, 2], features_ND[4])
    assert torch.equal(merged[1, 5], weight_VD[PLACEHOLDER])
