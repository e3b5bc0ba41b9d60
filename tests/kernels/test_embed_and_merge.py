from collections.abc import Callable

import pytest
import torch
from triptych_kernels import MergePlan, embed_and_merge, reference

Randn = Callable[..., torch.Tensor]
V = 11


def ids_of(plan: MergePlan) -> torch.Tensor:
    """Random ids at text positions, an id far outside the table at image positions."""
    text_ids = torch.randint(0, V, plan.shape, generator=torch.Generator().manual_seed(1))
    return text_ids.masked_fill(plan.src >= 0, -200)


def test_equals_the_reference(plan: MergePlan, dtype: torch.dtype, num_columns: int, randn: Randn) -> None:
    weight_VD = randn(V, num_columns, dtype=dtype)
    features_ND = randn(plan.num_features, num_columns, dtype=dtype)
    ids = ids_of(plan)
    merged = embed_and_merge(weight_VD, ids, features_ND, plan)
    assert torch.equal(merged, reference.embed_and_merge(weight_VD, ids, features_ND, plan))
    assert torch.equal(embed_and_merge(weight_VD, ids.int(), features_ND, plan), merged)


def test_gradients(plan: MergePlan, dtype: torch.dtype, num_columns: int, randn: Randn) -> None:
    """The weight's bit for bit as torch's own lookup and mask give it, the features' as the reference adds them."""
    weight_VD = randn(V, num_columns, dtype=dtype).requires_grad_()
    features_ND = randn(plan.num_features, num_columns, dtype=dtype).requires_grad_()
    ids = ids_of(plan)
    grad = randn(*plan.shape, num_columns, dtype=dtype)
    embed_and_merge(weight_VD, ids, features_ND, plan).backward(grad)

    other_VD = weight_VD.detach().requires_grad_()
    mask = (plan.src >= 0)[..., None]
    text = torch.nn.functional.embedding(ids.clamp(min=0), other_VD)
    text.masked_scatter(mask, torch.zeros(plan.num_slots, num_columns, dtype=dtype)).backward(grad)
    assert torch.equal(weight_VD.grad, other_VD.grad)
    assert torch.equal(features_ND.grad, reference.features_grad(grad, plan))


@pytest.mark.parametrize("padding_idx", [3, -2])
def test_padding_rows_get_no_gradient(padding_idx: int, randn: Randn) -> None:
    plan = MergePlan.from_spans((2, 8), [(0, 1, 2, 0), (1, 4, 2, 2)], num_features=4)
    weight_VD = randn(5, 4).requires_grad_()
    other_VD = weight_VD.detach().requires_grad_()
    ids = torch.arange(16).view(2, 8) % 5
    grad = randn(2, 8, 4)
    embed_and_merge(weight_VD, ids, randn(4, 4), plan, padding_idx=padding_idx).backward(grad)
    reference.embed_and_merge(other_VD, ids, randn(4, 4), plan, padding_idx=padding_idx).backward(grad)
    assert torch.equal(weight_VD.grad, other_VD.grad)
    assert not weight_VD.grad[padding_idx].any()
    assert weight_VD.grad[0].any()


def test_a_sampled_placeholder_id_is_text(randn: Randn) -> None:
    """The completion of row 0 holds the placeholder id; a search of ids would take a feature row for it."""
    placeholder = 9
    plan = MergePlan.from_spans((2, 6), [(0, 1, 2, 0), (1, 1, 2, 2)], num_features=4)
    ids = torch.tensor([[1, placeholder, placeholder, 2, placeholder, 3], [1, placeholder, placeholder, 2, 4, 3]])
    weight_VD, features_ND = randn(V, 8).requires_grad_(), randn(4, 8)
    merged = embed_and_merge(weight_VD, ids, features_ND, plan)
    assert torch.equal(merged[0, 4], weight_VD[placeholder])
    assert torch.equal(merged[1, 1:3], features_ND[2:])
    merged.sum().backward()
    assert torch.equal(weight_VD.grad[placeholder], torch.ones(8))


def test_frozen_table_and_frozen_features(randn: Randn) -> None:
    plan = MergePlan.from_spans((6,), [(0, 1, 2, 0)], num_features=2)
    weight_VD, features_ND = randn(V, 8), randn(2, 8)
    assert not embed_and_merge(weight_VD, torch.zeros(6, dtype=torch.long), features_ND, plan).requires_grad
    features_ND.requires_grad_()
    embed_and_merge(weight_VD, torch.zeros(6, dtype=torch.long), features_ND, plan).sum().backward()
    assert weight_VD.grad is None
    assert torch.equal(features_ND.grad, torch.ones(2, 8))


@pytest.mark.parametrize("bad", [V, -1])
def test_a_text_id_outside_the_table_is_named(bad: int, randn: Randn) -> None:
    ids = torch.zeros(2, 6, dtype=torch.long)
    ids[1, 4] = bad
    plan = MergePlan.from_spans((2, 6), [(0, 1, 2, 0)], num_features=2)
    message = f"the text id at row 1, position 4 is {bad}, but the weight has 11 rows"
    with pytest.raises(IndexError, match=message):
        embed_and_merge(randn(V, 8), ids, randn(2, 8), plan)
    packed = MergePlan.from_spans((12,), [(0, 1, 2, 0)], num_features=2)
    with pytest.raises(IndexError, match=f"the text id at position 10 is {bad}"):
        embed_and_merge(randn(V, 8), ids.flatten(), randn(2, 8), packed)
