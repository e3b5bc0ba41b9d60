"""Products with a matrix in blocks: against torch's own, to the bit for other numbers of rows and of threads."""

import pytest
import torch
import torch.nn.functional as F
from triptych_kernels import PackedMatrix


@pytest.mark.parametrize("num_outputs", [1, 31, 32, 33, 200])
@pytest.mark.parametrize("num_inputs", [1, 7, 128, 300])
def test_it_is_the_product_of_the_matrix(randn, num_inputs, num_outputs):
    weight, bias = randn(num_outputs, num_inputs), randn(num_outputs)
    packed = PackedMatrix.of(weight)
    for rows in (1, 2, 3, 8, 11, 16):
        input = randn(rows, 1, num_inputs)
        expected = F.linear(input.double(), weight.double(), bias.double())
        found = packed.product(input, bias)
        assert found.shape == (rows, 1, num_outputs)
        assert found.dtype == torch.float32
        assert (found - expected).abs().max() <= 1e-5 * num_inputs**0.5
    torch.testing.assert_close(packed.product(input), F.linear(input, weight), rtol=1e-5, atol=1e-4)


def test_a_row_has_the_same_bits_for_every_number_of_rows_and_threads(randn):
    weight, input = randn(2048, 300), randn(13, 300)
    packed, threads = PackedMatrix.of(weight), torch.get_num_threads()
    alone = torch.cat([packed.product(input[row : row + 1]) for row in range(13)])
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            assert all(torch.equal(packed.product(input[:rows]), alone[:rows]) for rows in (1, 4, 7, 8, 13))
    finally:
        torch.set_num_threads(threads)


def test_matrices_that_are_copied_together_give_the_bits_of_each_alone(randn):
    weights = [randn(*shape) for shape in ((33, 40), (1, 7), (640, 1100))]
    for weight, packed in zip(weights, PackedMatrix.of_all(weights), strict=True):
        input = randn(3, weight.shape[1])
        assert torch.equal(packed.product(input), PackedMatrix.of(weight).product(input))
        torch.testing.assert_close(packed.product(input), F.linear(input, weight), rtol=1e-5, atol=1e-4)
    assert PackedMatrix.of_all([]) == []


def test_inputs_need_not_be_contiguous_and_may_be_empty(randn):
    packed = PackedMatrix.of(randn(40, 6).t())
    input = randn(40, 5)
    assert torch.equal(packed.product(input.t()), packed.product(input.t().contiguous()))
    assert packed.product(torch.zeros(0, 3, 40)).shape == (0, 3, 6)


def test_infinite_inputs_and_nan_stay_what_they_are(randn):
    weight = torch.ones(33, 4)
    input = torch.tensor([[1.0, torch.inf, 0.0, 0.0], [0.0, torch.nan, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    found = PackedMatrix.of(weight).product(input)
    assert found[0].isposinf().all()
    assert found[1].isnan().all()
    assert (found[2] == 4).all()


def test_later_changes_of_the_matrix_are_not_seen(randn):
    weight, input = randn(8, 8), randn(2, 8)
    packed = PackedMatrix.of(weight)
    before = packed.product(input)
    weight.zero_()
    assert torch.equal(packed.product(input), before)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.zeros(4, 3, dtype=torch.bfloat16), r"got \[4, 3\] of torch.bfloat16 on cpu"),
        (torch.zeros(4), r"got \[4\] of torch.float32 on cpu"),
        (torch.zeros(4, 3, device="meta"), r"got \[4, 3\] of torch.float32 on meta"),
    ],
)
def test_only_float32_matrices_on_a_cpu_are_packed(weight, message):
    with pytest.raises(TypeError, match="expected a float32 matrix on a CPU, " + message):
        PackedMatrix.of(weight)


@pytest.mark.parametrize(
    ("input", "bias", "message"),
    [
        (torch.zeros(2, 4), None, r"expected an input \[\.\.\., 3\] in float32 on a CPU.*got \[2, 4\]"),
        (torch.zeros(2, 3, dtype=torch.float64), None, "in torch.float64 on cpu"),
        (torch.zeros(2, 3), torch.zeros(4), r"expected a bias \[5\] in float32, got \[4\] in torch.float32"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(input, bias, message):
    with pytest.raises(ValueError, match=message):
        PackedMatrix.of(torch.zeros(5, 3)).product(input, bias)
