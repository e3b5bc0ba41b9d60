"""Tokens drawn in one pass are those of `torch.multinomial`, and the generator goes on as far."""

import pytest
import torch
from triptych_kernels import draw, draws_as_torch


def generators(seed, *, words=0):
    """Two generators in the same state, `words` 32-bit numbers after a seed."""
    found = [torch.Generator().manual_seed(seed) for _ in range(2)]
    for generator in found:
        torch.rand(words, generator=generator)
    return found


def test_this_torch_is_known():
    assert draws_as_torch()


@pytest.mark.parametrize("vocabulary", [1, 2, 63, 64, 65, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("spread", [0.0, 3.0, 40.0])
def test_ids_and_state_are_those_of_multinomial(vocabulary, spread):
    for seed in range(12):
        weights_RV = (torch.randn(4, vocabulary, generator=torch.Generator().manual_seed(seed)) * spread).softmax(-1)
        weights_RV[:, vocabulary // 2 + 1 :: 2] = 0.0
        one, other = generators(seed, words=seed * 111)
        expected = torch.multinomial(weights_RV, 1, generator=one)[:, 0]
        assert torch.equal(draw(weights_RV, generator=other), expected)
        assert torch.equal(one.get_state(), other.get_state())


@pytest.mark.parametrize("rows", [[], [0], [2], [0, 4], [1, 2, 3]])
def test_rows_that_are_not_drawn_use_up_their_numbers(rows):
    whole_BV = torch.rand(5, 777, generator=torch.Generator().manual_seed(3))
    one, other = generators(5, words=7)
    expected = torch.multinomial(whole_BV, 1, generator=one)[rows, 0]
    assert torch.equal(draw(whole_BV[rows], rows_R=torch.tensor(rows), num_rows=5, generator=other), expected)
    assert torch.equal(one.get_state(), other.get_state())


def test_the_numbers_of_the_process_are_used_where_no_generator_is_given():
    weights_RV = torch.rand(2, 300)
    state = torch.get_rng_state()
    expected = torch.multinomial(weights_RV, 1)[:, 0]
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    assert torch.equal(draw(weights_RV), expected)
    assert torch.equal(torch.get_rng_state(), after)


def test_ids_are_drawn_as_often_as_their_probabilities_say():
    share = torch.tensor([[0.5, 0.0, 0.3, 0.2]])
    (generator, _) = generators(0)
    counts = torch.stack([draw(share, generator=generator) for _ in range(4000)]).flatten().bincount(minlength=4)
    assert (counts / 4000 - share[0]).abs().max() < 0.03
    assert counts[1] == 0


@pytest.mark.parametrize("wrong", [float("nan"), -1.0])
def test_what_is_no_probability_is_refused(wrong):
    weights_RV = torch.rand(2, 100)
    weights_RV[1, 70] = wrong
    with pytest.raises(ArithmeticError, match="negative or no number"):
        draw(weights_RV)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"probabilities_RV": torch.rand(2, 3, dtype=torch.float64)}, "expected probabilities .* got torch.float64"),
        ({"rows_R": torch.tensor([1, 0]), "num_rows": 2}, r"2 of 2 rows in ascending order, got \[1, 0\]"),
        ({"rows_R": torch.tensor([0, 2]), "num_rows": 2}, r"got \[0, 2\]"),
        ({"rows_R": torch.tensor([0])}, r"expected 2 of 2 rows"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        draw(**{"probabilities_RV": torch.rand(2, 3), **given})


def test_a_generator_of_another_kind_is_refused_before_its_state_is_read():
    class Other:
        device = torch.device("cuda")

        def get_state(self):
            return torch.zeros(16, dtype=torch.uint8)

    with pytest.raises(ValueError, match="whose state has 5056 bytes, got one on cuda with 16"):
        draw(torch.rand(2, 3), generator=Other())
