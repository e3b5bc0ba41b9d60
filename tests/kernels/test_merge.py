from collections.abc import Callable

import pytest
import torch
from triptych_kernels import MergePlan, merge, merge_add, reference

Randn = Callable[..., torch.Tensor]
PLAN = MergePlan.from_spans((2, 6), [(0, 1, 2, 0), (1, 3, 2, 0)], num_features=2)


def test_merge_equals_the_reference(plan: MergePlan, dtype: torch.dtype, num_columns: int, randn: Randn) -> None:
    embeds = randn(*plan.shape, num_columns, dtype=dtype).requires_grad_()
    features_ND = randn(plan.num_features, num_columns, dtype=dtype).requires_grad_()
    grad = randn(*plan.shape, num_columns, dtype=dtype)
    merged = merge(embeds, features_ND, plan)
    assert torch.equal(merged, reference.merge(embeds, features_ND, plan))
    merged.backward(grad)
    assert torch.equal(embeds.grad, reference.text_grad(grad, plan))
    assert torch.equal(features_ND.grad, reference.features_grad(grad, plan))


def test_merge_add_equals_the_reference(plan: MergePlan, dtype: torch.dtype, num_columns: int, randn: Randn) -> None:
    hidden = randn(*plan.shape, num_columns, dtype=dtype).requires_grad_()
    features_ND = randn(plan.num_features, num_columns, dtype=dtype).requires_grad_()
    grad = randn(*plan.shape, num_columns, dtype=dtype)
    added = merge_add(hidden, features_ND, plan)
    assert torch.equal(added, reference.merge_add(hidden, features_ND, plan))
    added.backward(grad)
    assert torch.equal(hidden.grad, grad)
    assert torch.equal(features_ND.grad, reference.features_grad(grad, plan))


@pytest.mark.parametrize("op", [merge, merge_add])
def test_in_place_and_into_a_buffer(plan: MergePlan, dtype: torch.dtype, op: Callable, randn: Randn) -> None:
    rows, features_ND = randn(*plan.shape, 33, dtype=dtype), randn(plan.num_features, 33, dtype=dtype)
    expected = op(rows, features_ND, plan)
    buffer = torch.full_like(rows, torch.nan)
    assert op(rows, features_ND, plan, out=buffer) is buffer
    assert torch.equal(buffer, expected)
    assert op(rows, features_ND, plan, out=rows) is rows
    assert torch.equal(rows, expected)


@pytest.mark.parametrize("op", [merge, merge_add])
def test_in_place_carries_gradients(op: Callable, randn: Randn) -> None:
    """As under an embedding layer: the rows are not a leaf, and are overwritten."""
    leaf, features_ND, grad = randn(2, 6, 8).requires_grad_(), randn(2, 8).requires_grad_(), randn(2, 6, 8)
    rows = leaf * 1
    op(rows, features_ND, PLAN, out=rows)
    rows.backward(grad)
    other, other_ND = leaf.detach().requires_grad_(), features_ND.detach().requires_grad_()
    op(other, other_ND, PLAN).backward(grad)
    assert torch.equal(leaf.grad, other.grad)
    assert torch.equal(features_ND.grad, other_ND.grad)


@pytest.mark.parametrize("op", [merge, merge_add])
def test_large_buffers_take_the_streaming_path(op: Callable, randn: Randn) -> None:
    """33 MiB and an odd row: past the size where stores bypass the cache, with a tail and unaligned rows."""
    num_tokens, num_columns = 4111, 2101
    plan = MergePlan.from_spans((num_tokens,), [(0, 5, 3000, 0), (0, 3100, 3000 // 4, 9)], num_features=3000)
    rows, features_ND = randn(num_tokens, num_columns), randn(3000, num_columns)
    expected = getattr(reference, op.__name__)(rows, features_ND, plan)
    assert torch.equal(op(rows, features_ND, plan), expected)
    assert torch.equal(op(rows, features_ND, plan, out=torch.full_like(rows, torch.nan)), expected)
    assert torch.equal(op(rows, features_ND, plan, out=rows), expected)


def test_a_buffer_that_does_not_fit_is_refused(randn: Randn) -> None:
    embeds, features_ND = randn(2, 6, 8), randn(2, 8)
    with pytest.raises(ValueError, match=r"out must be like embeds, \[2, 6, 8\] torch.float32 on cpu; got \[2, 6, 7\]"):
        merge(embeds, features_ND, PLAN, out=randn(2, 6, 7))
    with pytest.raises(ValueError, match=r"got \[2, 6, 8\] torch.bfloat16 on cpu"):
        merge(embeds, features_ND, PLAN, out=embeds.bfloat16())
    with pytest.raises(ValueError, match=r"out must be contiguous, got strides \(1, 2, 12\)"):
        merge(embeds, features_ND, PLAN, out=randn(8, 6, 2).permute(2, 1, 0))
    storage = randn(104)
    with pytest.raises(ValueError, match="out shares memory with embeds but is not the same tensor"):
        merge(storage[:96].view(2, 6, 8), features_ND, PLAN, out=storage[8:].view(2, 6, 8))
    with pytest.raises(ValueError, match="out shares memory with features"):
        merge(embeds, storage[88:].view(2, 8), PLAN, out=storage[:96].view(2, 6, 8))
    with pytest.raises(ValueError, match="out= cannot carry a gradient; pass out=embeds"):
        merge(embeds, features_ND.requires_grad_(), PLAN, out=torch.empty_like(embeds))


@pytest.mark.parametrize("op", [merge, merge_add])
def test_rows_that_are_not_contiguous(op: Callable, dtype: torch.dtype, randn: Randn) -> None:
    rows = randn(8, 6, 2, dtype=dtype).permute(2, 1, 0)
    wide_ND = randn(2, 24, dtype=dtype)
    expected = op(rows.contiguous(), wide_ND[:, 8:16].contiguous(), PLAN)
    assert torch.equal(op(rows, wide_ND[:, 8:16], PLAN), expected)
    assert torch.equal(op(rows, wide_ND[:, 8:16].t().contiguous().t(), PLAN), expected)


def test_a_gradient_that_is_not_contiguous(randn: Randn) -> None:
    """`sum().backward()` hands down one number expanded to the whole shape."""
    embeds, features_ND = randn(2, 6, 8).requires_grad_(), randn(2, 8).requires_grad_()
    merge(embeds, features_ND, PLAN).sum().backward()
    assert torch.equal(features_ND.grad, torch.full((2, 8), 2.0))
    assert torch.equal(embeds.grad, (PLAN.src < 0).float()[..., None].expand(2, 6, 8))
