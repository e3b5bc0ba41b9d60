"""Rollouts that a vLLM server samples while the trainer works on earlier ones (``--rollout_lag``)."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from triptych_trainer.checkpoints.order import EpochSampler
from triptych_trainer.grpo.step import Sampled
from triptych_trainer.grpo.trl.vllm_sampler import ask_vllm
from triptych_trainer.grpo.vllm import AskedGeneration, answers_of
from triptych_trainer.prompts.bad_rows import prepared_with
from triptych_trainer.prompts.prepare import PreparedPrompt

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = ["Begun", "GenerationPlace", "RolloutsAhead", "place_after"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationPlace:
    """Says where a generation is in the order of a run."""

    epoch: int
    number: int
    """Within the epoch, from 0."""
    first_step: int
    """The optimizer steps before the first one that trains on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """Contains a generation that the server was asked for."""

    keys: tuple[int, ...]
    """The rows of this rank, one for each completion."""
    place: GenerationPlace
    prompts: dict[int, PreparedPrompt]
    sizes: dict[int, int]
    """Completions of each prompt."""
    asked: AskedGeneration
    version: int
    """The optimizer step whose weights sample it."""


class RolloutsAhead:
    """Asks for each generation ``lag`` generations before it is trained on; keeps what was asked for.

    Generation k is sampled with the weights that the run had when it began to train on generation k - ``lag``, whatever
    the timing. A run that begins or is resumed asks for its first generations with its first weights.
    """

    def __init__(self, lag: int) -> None:
        """Keep up to ``lag`` generations in addition to the one that is waited for."""
        self.lag = lag
        self._begun: deque[Begun] = deque()

    def forget(self) -> None:
        """Drop what was asked for in an earlier training."""
        self._begun.clear()

    def begin(self, trainer: "MultiImageGRPOTrainer", keys: Sequence[int]) -> Begun:
        """Return the generation of these rows, which was asked for before or is asked for now."""
        if not self._begun or self._begun[0].keys != tuple(keys):
            self._begun.clear()
            self._ask(trainer, place_of(trainer, keys))
            self._ask_for_next(trainer)
        assert self._begun[0].keys == tuple(keys), "the order of rows is a function of seed and epoch"
        return self._begun.popleft()

    def wait_for(self, trainer: "MultiImageGRPOTrainer", begun: Begun) -> list[list[Sampled]]:
        """Return the completions of a generation; then the next generation is asked for, with the present weights."""
        completions = answers_of(trainer.vllm_generation, begun.asked)
        self._ask_for_next(trainer, behind=begun.place)
        return completions

    def _ask_for_next(self, trainer: "MultiImageGRPOTrainer", *, behind: GenerationPlace | None = None) -> None:
        wanted = self.lag + (behind is None)  # the first generation of all is still among those that were begun
        last = self._begun[-1].place if self._begun else behind
        while last is not None and len(self._begun) < wanted:
            last = place_after(trainer, last)
            if last.first_step >= trainer.state.max_steps:
                return
            self._ask(trainer, last)

    def _ask(self, trainer: "MultiImageGRPOTrainer", place: GenerationPlace) -> None:
        keys = keys_at(trainer, place)
        prompts, sizes = prepared_with(
            trainer.bad_rows,
            Counter(keys),
            prepare=trainer.prompt_of,
            rows_beside=trainer.tables.rows_beside,
            step=place.first_step,
        )
        asked = ask_vllm(trainer, list(prompts.values()), list(sizes.values()))
        version = trainer.state.global_step
        self._begun.append(
            Begun(keys=tuple(keys), place=place, prompts=prompts, sizes=sizes, asked=asked, version=version)
        )


def place_of(trainer: "MultiImageGRPOTrainer", keys: Sequence[int]) -> GenerationPlace:
    """Return where the generation of these rows is in the epoch that is walked."""
    sampler = _sampler(trainer)
    first_of_all = trainer.args.process_index * len(keys) // trainer.num_generations
    number = (sampler.rows_of(sampler.epoch).index(keys[0]) - first_of_all) // sampler.batch_size
    return _place(trainer, epoch=sampler.epoch, number=number)


def place_after(trainer: "MultiImageGRPOTrainer", place: GenerationPlace) -> GenerationPlace:
    """Return the next generation, in this epoch or the next one."""
    sampler = _sampler(trainer)
    ends = place.number + 1 >= sampler.num_samples // sampler.batch_size
    return _place(trainer, epoch=place.epoch + ends, number=0 if ends else place.number + 1)


def _place(trainer: "MultiImageGRPOTrainer", *, epoch: int, number: int) -> GenerationPlace:
    args, sampler = trainer.args, _sampler(trainer)
    every = args.steps_per_generation * trainer.num_iterations
    batches = sampler.num_samples // sampler.batch_size * every
    steps_per_epoch = -(-batches // args.gradient_accumulation_steps)
    first_step = epoch * steps_per_epoch + number * every // args.gradient_accumulation_steps
    return GenerationPlace(epoch=epoch, number=number, first_step=first_step)


def keys_at(trainer: "MultiImageGRPOTrainer", place: GenerationPlace) -> list[int]:
    """Return the rows of this rank in a generation, one for each completion: its part of all ranks' completions."""
    sampler, args = _sampler(trainer), trainer.args
    rows = sampler.rows_of(place.epoch)[place.number * sampler.batch_size :][: sampler.batch_size]
    completions = [row for row in rows for _ in range(trainer.num_generations)]
    local = args.per_device_train_batch_size * args.steps_per_generation
    return completions[args.process_index * local :][:local]


def _sampler(trainer: "MultiImageGRPOTrainer") -> EpochSampler:
    sampler = trainer._train_sampler
    assert isinstance(sampler, EpochSampler)
    return sampler
