import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from triptych_kernels import MergePlan, merge, reference

Randn = Callable[..., torch.Tensor]
PLAN = MergePlan.from_images((2, 6), [(0, 0, [(1, 2)]), (1, 0, [(3, 2)])], features_per_image=[2])


@pytest.mark.slow_except("*-D7", "out_of_order-*-D64", "shared-*-D514", "no_rows-float32-*")
def test_equals_the_reference(plan: MergePlan, dtype: torch.dtype, num_columns: int, randn: Randn) -> None:
    """Forward and both gradients, to the bit."""
    embeds_BTD = randn(*plan.shape, num_columns, dtype=dtype).requires_grad_()
    features_ND = randn(plan.num_features, num_columns, dtype=dtype).requires_grad_()
    grad_BTD = randn(*plan.shape, num_columns, dtype=dtype)
    merged_BTD = merge(embeds_BTD, features_ND, plan)
    assert torch.equal(merged_BTD, reference.merge(embeds_BTD, features_ND, plan))
    merged_BTD.backward(grad_BTD)
    assert torch.equal(embeds_BTD.grad, reference.text_grad(grad_BTD, plan))
    assert torch.equal(features_ND.grad, reference.features_grad(grad_BTD, plan))


def test_the_reference_is_what_the_plan_says(randn: Randn) -> None:
    """The oracle of all other tests, held against a loop."""
    embeds_BTD, features_ND, grad_BTD = randn(2, 6, 3), randn(2, 3), randn(2, 6, 3)
    expected_BTD, text_BTD, sum_ND = embeds_BTD.clone(), grad_BTD.clone(), torch.zeros(2, 3)
    for row, token, feature in [(0, 1, 0), (0, 2, 1), (1, 3, 0), (1, 4, 1)]:
        expected_BTD[row, token] = features_ND[feature]
        text_BTD[row, token] = 0
        sum_ND[feature] += grad_BTD[row, token]
    assert torch.equal(reference.merge(embeds_BTD, features_ND, PLAN), expected_BTD)
    assert torch.equal(reference.text_grad(grad_BTD, PLAN), text_BTD)
    assert torch.equal(reference.features_grad(grad_BTD, PLAN), sum_ND)


def test_gradients_only_where_they_are_wanted(randn: Randn) -> None:
    embeds_BTD, features_ND = randn(2, 6, 8), randn(2, 8)
    assert not merge(embeds_BTD, features_ND, PLAN).requires_grad
    merge(embeds_BTD, features_ND.requires_grad_(), PLAN).sum().backward()
    assert embeds_BTD.grad is None
    assert torch.equal(features_ND.grad, torch.full((2, 8), 2.0))
    merge(embeds_BTD.requires_grad_(), features_ND.detach(), PLAN).sum().backward()
    assert torch.equal(embeds_BTD.grad, (PLAN.src < 0).float()[..., None].expand(2, 6, 8))


def test_inputs_are_not_changed(randn: Randn) -> None:
    embeds_BTD, features_ND = randn(2, 6, 8), randn(2, 8)
    before = embeds_BTD.clone(), features_ND.clone()
    merge(embeds_BTD, features_ND, PLAN).fill_(7.0)
    assert torch.equal(embeds_BTD, before[0])
    assert torch.equal(features_ND, before[1])


def test_large_results_are_written_in_wide_steps(randn: Randn) -> None:
    """33 MiB and an odd row: past the size where copies change, with a tail and rows that are not aligned."""
    num_tokens, num_columns = 4111, 2101
    places = [(0, 0, [(5, 3000)]), (0, 1, [(3100, 750)])]
    plan = MergePlan.from_images((1, num_tokens), places, features_per_image=[3000, 750])
    embeds_BTD = randn(1, num_tokens, num_columns).requires_grad_()
    features_ND, grad_BTD = randn(3750, num_columns), randn(1, num_tokens, num_columns)
    merged_BTD = merge(embeds_BTD, features_ND, plan)
    assert torch.equal(merged_BTD, reference.merge(embeds_BTD, features_ND, plan))
    merged_BTD.backward(grad_BTD)
    assert torch.equal(embeds_BTD.grad, reference.text_grad(grad_BTD, plan))


def test_rows_that_are_not_contiguous(dtype: torch.dtype, randn: Randn) -> None:
    embeds_BTD = randn(8, 6, 2, dtype=dtype).permute(2, 1, 0)
    wide_ND = randn(2, 24, dtype=dtype)
    expected = merge(embeds_BTD.contiguous(), wide_ND[:, 8:16].contiguous(), PLAN)
    assert torch.equal(merge(embeds_BTD, wide_ND[:, 8:16], PLAN), expected)
    assert torch.equal(merge(embeds_BTD, wide_ND[:, 8:16].t().contiguous().t(), PLAN), expected)


def test_a_gradient_that_is_not_contiguous(randn: Randn) -> None:
    embeds_BTD, features_ND = randn(2, 6, 8).requires_grad_(), randn(2, 8).requires_grad_()
    grad_BTD = randn(8, 6, 2).permute(2, 1, 0)
    merge(embeds_BTD, features_ND, PLAN).backward(grad_BTD)
    assert torch.equal(features_ND.grad, reference.features_grad(grad_BTD, PLAN))
    assert torch.equal(embeds_BTD.grad, reference.text_grad(grad_BTD, PLAN))


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists(), reason="no huge pages here")
def test_a_large_result_is_asked_for_in_huge_pages() -> None:
    plan = MergePlan.from_images((1, 10000), [(0, 0, [(5, 9000)])], features_per_image=[9000])
    embeds, features = torch.ones(1, 10000, 2048, dtype=torch.bfloat16), torch.zeros(9000, 2048, dtype=torch.bfloat16)
    merged = merge(embeds, features, plan)
    assert torch.equal(merged, reference.merge(embeds, features, plan))
    first, flags = merged.data_ptr() + (-merged.data_ptr() % (2 << 20)), None  # those after it only if it comes fast
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= first < int(found[2], 16)
        elif line.startswith("VmFlags:") and inside:
            flags = line.split()
    assert flags is not None
    assert "hg" in flags
