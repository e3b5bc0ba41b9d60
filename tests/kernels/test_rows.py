"""The norm of a few rows: against double precision, to the bit for other numbers of rows."""

import pytest
import torch
from triptych_kernels import row_norm


@pytest.mark.parametrize("width", [1, 15, 16, 33, 384])
def test_the_norm_divides_by_the_root_of_the_mean_square(randn, width):
    input, weight = randn(3, 2, width) * torch.tensor([1e-3, 30.0]).view(2, 1), randn(width)
    found = row_norm(input, weight, epsilon=1e-6)
    wide = input.double()
    expected = weight * wide / (wide.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=0)


def test_a_row_has_the_same_bits_for_every_number_of_rows(randn):
    rows, weight = randn(5, 70), randn(70)
    assert torch.equal(row_norm(rows, weight, epsilon=1e-6)[3:4], row_norm(rows[3:4], weight, epsilon=1e-6))


def test_rows_need_not_be_contiguous_and_may_be_none(randn):
    rows, weight = randn(8, 5).t(), randn(16)[::2]
    assert torch.equal(row_norm(rows, weight, epsilon=1.0), row_norm(rows.contiguous(), weight.clone(), epsilon=1.0))
    assert row_norm(rows[:0], weight, epsilon=1.0).shape == (0, 8)


def test_nan_stays_and_infinite_numbers_give_what_torch_gives():
    strange = torch.tensor([[torch.nan, 1.0], [torch.inf, 1.0], [-torch.inf, 1.0]])
    found = row_norm(strange, torch.ones(2), epsilon=1e-6)
    expected = strange * torch.rsqrt(strange.square().mean(-1, keepdim=True) + 1e-6)
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"a weight \[D\].*got \[2, 4\] in torch.float32 on cpu and \[3\]"):
        row_norm(torch.zeros(2, 4), torch.zeros(3), epsilon=1e-6)
    with pytest.raises(ValueError, match=r"got \[2, 4\] in torch.float64 on cpu"):
        row_norm(torch.zeros(2, 4, dtype=torch.float64), torch.zeros(4), epsilon=1e-6)
