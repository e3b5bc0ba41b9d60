from collections.abc import Callable

import torch
from triptych_kernels import MergePlan, merge, merge_add, reference

Randn = Callable[..., torch.Tensor]


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
