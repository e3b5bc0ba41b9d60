"""Sums over shared feature rows: order, rounding, and the same bits every time."""

from collections.abc import Callable

import pytest
import torch
from triptych_kernels import MergePlan, merge, reference
from triptych_kernels.ops.gradients import features_grad, text_grad

Randn = Callable[..., torch.Tensor]
PlanOfSrc = Callable[..., MergePlan]


def shared_plan(group: int, num_features: int) -> MergePlan:
    places = [(row, 0, [(3, num_features)]) for row in range(group)]
    return MergePlan.from_images((group, num_features + 5), places, features_per_image=[num_features])


@pytest.mark.parametrize("num_columns", [8, 13, 1030])
@pytest.mark.parametrize("group", [1, 2, 8, 16])
def test_sums_equal_the_ordered_reference(group: int, num_columns: int, dtype: torch.dtype, randn: Randn) -> None:
    plan = shared_plan(group, 17)
    grad = randn(*plan.shape, num_columns, dtype=dtype)
    assert torch.equal(features_grad(grad, plan.index, 17), reference.features_grad(grad, plan))


@pytest.mark.parametrize("group", [2, 8, 16])
def test_one_rounding(group: int, dtype: torch.dtype, randn: Randn) -> None:
    """Next to the float64 sum the error is half a last place of the result, not of every partial sum."""
    plan = shared_plan(group, 64)
    grad = randn(*plan.shape, 32, dtype=dtype)
    exact = grad[:, 3:67].double().sum(0)
    error = (features_grad(grad, plan.index, 64).double() - exact).abs()
    ulps = 0.51 if dtype != torch.float32 else group
    # A float32 sum near zero keeps the absolute error of its largest terms.
    allowed = ulps * torch.finfo(dtype).eps * exact.abs() + group * 2**-22
    assert (error <= allowed).all()


def test_bits_are_the_same_for_every_thread_count(dtype: torch.dtype, randn: Randn) -> None:
    plan = shared_plan(4, 200)
    grad = randn(*plan.shape, 1024, dtype=dtype)
    embeds, features_ND = randn(*plan.shape, 1024, dtype=dtype), randn(200, 1024, dtype=dtype)
    before = torch.get_num_threads()
    results = []
    try:
        for num_threads in (1, 2, 3, 8):
            torch.set_num_threads(num_threads)
            results.append(
                (
                    features_grad(grad, plan.index, 200),
                    text_grad(grad, plan.index),
                    merge(embeds, features_ND, plan),
                )
            )
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(left, right) for left, right in zip(results[0], other, strict=True))


def test_a_feature_used_once_keeps_every_bit(plan_of_src: PlanOfSrc) -> None:
    """-0.0 and NaN payloads would not survive an addition."""
    bits = torch.tensor([[-32768, 0x7FC1, 0x7F80, 1]], dtype=torch.int16)
    summed = features_grad(bits.view(torch.bfloat16)[None], plan_of_src([0], num_features=1).index, 1)
    assert torch.equal(summed.view(torch.int16), bits)


@pytest.mark.parametrize("num_columns", [4, 16])
def test_infinity_and_nan_in_a_sum(num_columns: int, dtype: torch.dtype, plan_of_src: PlanOfSrc) -> None:
    inf, nan = torch.inf, torch.nan
    grad = torch.tensor([[[inf, inf, nan, 1.0], [-inf, 1.0, 1.0, -1.0]]]).to(dtype).repeat(1, 1, num_columns // 4)
    plan = plan_of_src([0, 0], num_features=1)
    expected = torch.tensor([[nan, inf, nan, 0.0]]).to(dtype).repeat(1, num_columns // 4)
    assert torch.equal(features_grad(grad, plan.index, 1).nan_to_num(7.0), expected.nan_to_num(7.0))


def test_overflow_of_float16_is_infinity(plan_of_src: PlanOfSrc) -> None:
    plan = plan_of_src([0, 0], num_features=1)
    grad = torch.full((1, 2, 16), 60000.0, dtype=torch.float16)
    assert (features_grad(grad, plan.index, 1) == torch.inf).all()


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_every_16_bit_value_survives_conversion(half: torch.dtype, plan_of_src: PlanOfSrc) -> None:
    """x + x, for all 65536 x, in vector lanes and in the scalar tail (a row of one column)."""
    values = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(half)
    expected = (values.float() + values.float()).to(half)
    finite = ~expected.isnan()
    lanes = plan_of_src([0, 0], num_features=1)
    summed = features_grad(values.expand(1, 2, -1), lanes.index, 1)[0]
    assert torch.equal(summed[finite], expected[finite])
    assert summed[~finite].isnan().all()
    tail = MergePlan.from_images(
        (1, 2 * 65536), [(0, 0, [(0, 65536)]), (0, 0, [(65536, 65536)])], features_per_image=[65536]
    )
    summed = features_grad(values.repeat(2)[None, :, None], tail.index, 65536)[:, 0]
    assert torch.equal(summed[finite], expected[finite])
    assert summed[~finite].isnan().all()
