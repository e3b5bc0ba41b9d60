"""The order of the prompts: stock TRL's to the row, and known from seed and epoch alone."""

import pytest
from triptych_trainer.checkpoints.order import EpochSampler
from trl.trainer.utils import RepeatSampler

OPTIONS = {"mini_repeat_count": 2, "batch_size": 3, "repeat_count": 2, "seed": 7}


def stock_epochs(num_epochs, **options):
    sampler = RepeatSampler(range(11), **OPTIONS, **options)
    return [list(sampler) for _ in range(num_epochs)]


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_epoch_is_that_of_stock_trl_wherever_a_process_begins(shuffle):
    expected = stock_epochs(6, shuffle=shuffle)
    for first in range(6):
        sampler = EpochSampler.like(RepeatSampler(range(11), **OPTIONS, shuffle=shuffle))
        for epoch in range(first, 6):
            sampler.set_epoch(epoch)
            assert list(sampler) == expected[epoch], f"epoch {epoch} of a process that begins in epoch {first}"


def test_an_epoch_walked_twice_or_in_part_is_the_same():
    expected = stock_epochs(4)
    sampler = EpochSampler(range(11), **OPTIONS)
    for epoch in (3, 3, 0, 2, 1):
        sampler.set_epoch(epoch)
        begun = iter(sampler)
        assert next(begun) == expected[epoch][0]
        assert list(sampler) == expected[epoch]
    assert len({tuple(epoch) for epoch in expected}) == 4
    assert len(sampler) == len(expected[0])
