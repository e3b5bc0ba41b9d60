"""Tokens are drawn by the random numbers of `torch.multinomial`, also when some rows have ended."""

import pytest
import torch
from triptych_trainer.forward import draw
from triptych_trainer.forward.draw import draw_tokens
from triptych_trainer.forward.scores import SamplingError


@pytest.mark.parametrize("spread", [0, 2, 30])
@pytest.mark.parametrize("by_kernel", [True, False])
def test_tokens_and_random_state_are_those_of_multinomial(monkeypatch, by_kernel, spread):
    assert draw.draws_as_torch()
    monkeypatch.setattr(draw, "draws_as_torch", lambda: by_kernel)
    generator = torch.Generator().manual_seed(0)
    scores_BV = torch.randn(5, 700, generator=generator) * spread
    scores_BV[:, 100:200] = -torch.inf
    for seed, rows in enumerate(([0, 1, 2, 3, 4], [4], [1, 3], [0, 2, 3], [0, 1, 2, 3, 4]) * 20):
        torch.manual_seed(seed)
        expected = torch.multinomial(scores_BV.softmax(-1), 1)[rows, 0]
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        got = draw_tokens(scores_BV[rows], rows_R=torch.tensor(rows), num_rows=5)
        assert got.tolist() == expected.tolist()
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("by_kernel", [True, False])
def test_scores_that_are_no_numbers_are_refused(monkeypatch, by_kernel):
    monkeypatch.setattr(draw, "draws_as_torch", lambda: by_kernel)
    scores_BV = torch.zeros(2, 9)
    scores_BV[1, 4] = torch.nan
    with pytest.raises(SamplingError, match="the model's scores for a sampled token are infinite or no numbers; go on"):
        draw_tokens(scores_BV, rows_R=torch.arange(2), num_rows=2)
