"""TRL's order of the prompts as a function of seed and epoch alone, so that a resumed run has nothing to replay."""

from collections.abc import Iterator
from typing import Any

import torch

from triptych_trainer.upstream.trl_names import RepeatSampler

__all__ = ["EpochSampler"]


class EpochSampler(RepeatSampler):
    """Samples as TRL's sampler does, in epochs that are known from the seed and the number of the epoch.

    TRL draws one permutation per epoch from a generator that it seeds once: the order of an epoch depends on how many
    epochs this very object has walked. Here the generator is set to the state that it has after ``epoch`` permutations,
    so that the order is stock TRL's, to the row, in a process that begins in any epoch.

    >>> stock = RepeatSampler(range(5), mini_repeat_count=1, seed=7)
    >>> first, second, third = list(stock), list(stock), list(stock)
    >>> resumed = EpochSampler(range(5), mini_repeat_count=1, seed=7)
    >>> resumed.set_epoch(2)
    >>> list(resumed) == third != second
    True
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.epoch = 0
        self._walked = 0
        self._rows: tuple[int, list[int]] | None = None

    @classmethod
    def like(cls, sampler: RepeatSampler, *, seed: int | None = None) -> "EpochSampler":
        """Return a sampler of the same rows and repetitions, and of the same seed unless another one is given."""
        names = ("mini_repeat_count", "batch_size", "repeat_count", "shuffle")
        options = {name: getattr(sampler, name) for name in names}
        return cls(sampler.data_source, **options, seed=sampler.seed if seed is None else seed)

    def rows_of(self, epoch: int) -> list[int]:
        """Return the rows of an epoch, each once, in the order in which they are drawn; rows that do not fill a batch
        are left out.
        """
        if self._rows is None or self._rows[0] != epoch:
            once = EpochSampler(
                self.data_source,
                mini_repeat_count=1,
                batch_size=self.batch_size,
                repeat_count=1,
                shuffle=self.shuffle,
                seed=self.seed,
            )
            once.set_epoch(epoch)
            self._rows = (epoch, list(once))
        return self._rows[1]

    def set_epoch(self, epoch: int) -> None:
        """Walk epoch ``epoch`` (the first is 0) next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            if self.epoch < self._walked:
                self.generator.manual_seed(self.seed)
                self._walked = 0
            for _ in range(self._walked, self.epoch):
                torch.randperm(self.num_samples, generator=self.generator)
            self._walked = self.epoch + 1  # the base class draws this epoch's own
        yield from super().__iter__()
