"""Random numbers that a user's code sets are put back: every step would be sampled from the same ones."""

import asyncio
import random
import warnings

import numpy as np
import pytest
import torch
from triptych_trainer.rewards import guarded
from triptych_trainer.rewards.random_states import kept_random_numbers

SETS = {
    "torch": (lambda: torch.manual_seed(42), "torch"),
    "torch, and draws": (lambda: (torch.manual_seed(42), torch.rand(3)), "torch"),
    "torch, and draws many": (lambda: (torch.manual_seed(7), torch.randn(5000)), "torch"),
    "python": (lambda: random.seed(0), "random"),
    "numpy": (lambda: (np.random.seed(0), np.random.rand(3)), "numpy"),
}
DRAWS = {
    "nothing": lambda: None,
    "few": lambda: (torch.rand(3), torch.randn(1), random.gauss(), np.random.randn(1), random.random()),
    "many": lambda: (torch.rand(700_000), [random.random() for _ in range(3000)], np.random.rand(200_000)),
}


def states():
    return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())


@pytest.fixture(autouse=True)
def kept():
    """The numbers of the other tests, and generators that have drawn since they were set."""
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()
    torch.manual_seed(42), random.seed(1), np.random.seed(2)
    torch.rand(1000), np.random.rand(700), [random.random() for _ in range(700)]
    yield
    torch.set_rng_state(before[0]), random.setstate(before[1]), np.random.set_state(before[2])


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("name", SETS)
def test_numbers_that_a_reward_sets_are_put_back_with_one_warning(name, is_async):
    change, library = SETS[name]

    def reward(completions, **columns):
        change()
        return [0.0] * len(completions)

    async def later(completions, **columns):
        return reward(completions)

    reward.__name__ = later.__name__ = f"{name} {is_async}"
    call = guarded(later if is_async else reward)
    before = states()
    for time in range(2):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            asyncio.run(call(completions=["a"])) if is_async else call(completions=["a"])
        assert [str(one.message).partition(" (or")[0] for one in said] == [
            f"reward '{name} {is_async}' sets the random numbers of {library}"
        ] * (time == 0)
        assert states() == before


@pytest.mark.parametrize("name", DRAWS)
def test_numbers_that_are_drawn_stay_drawn(name):
    before, drawn = (torch.get_rng_state(), random.getstate(), np.random.get_state()), []
    for guard in (False, True):
        torch.set_rng_state(before[0]), random.setstate(before[1]), np.random.set_state(before[2])
        if guard:
            with kept_random_numbers("code"):
                DRAWS[name]()
        else:
            DRAWS[name]()
        drawn.append(states())
    assert drawn[0] == drawn[1]


def test_more_numbers_than_are_looked_at_are_put_back_with_a_warning_that_says_how_many():
    before = states()
    said = r"the code sets the random numbers of torch \(or draws more than 998,400\)"
    with pytest.warns(UserWarning, match=said), kept_random_numbers("the code"):
        torch.rand(1_100_000)
    assert states() == before


def test_only_the_named_numbers_are_looked_at():
    with kept_random_numbers("an environment", names=("torch",)):
        random.seed(3)
    assert random.random() == random.Random(3).random()
