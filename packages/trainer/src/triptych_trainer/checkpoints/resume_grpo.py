"""TRL's GRPO trainer, resumed in the middle of a generation: its completions are part of the checkpoint."""

from typing import Any

from accelerate.utils import send_to_device
from trl import GRPOTrainer

from triptych_trainer.checkpoints.order import EpochSampler
from triptych_trainer.checkpoints.resume import ResumableTrainer
from triptych_trainer.monitor.tracker_guard import tracker_in, warn_switched_off

__all__ = ["ResumableGRPOTrainer"]


class ResumableGRPOTrainer(ResumableTrainer, GRPOTrainer):
    """Adds the completions that later steps still train on, and the position in that cycle, to every checkpoint.

    An example: six prompts, two per generation with two completions each, ``num_iterations`` 2, so that each generation
    is trained on in two steps and an epoch has six. The run was killed in step 6; checkpoint-5 exists.

    - transformers computes that step 6 is the last of epoch 0, walks the sampler over the first five batches and asks
      for the next one. The sampler gives the prompts of the third generation, because its order is a function of seed
      and epoch.
    - Alone, TRL would now generate again: it counts its steps from 0. The cycle file says ``step`` 5, which is odd, so
      the second half of a generation is due, and ``batches`` contains that generation: its completions, their
      advantages and the log-probabilities of the policy that sampled them. Step 6 trains on them, and step 7 begins
      epoch 1 with a generation of its own.
    """

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        self._train_sampler = EpochSampler.like(super()._get_train_sampler(dataset), seed=self.args.data_seed)
        return self._train_sampler

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as TRL does; a tracker that fails at the table of completions is switched off with a warning."""
        try:
            super().log(logs, start_time)
        except Exception as error:
            tracker = tracker_in(error, self.args.report_to)
            if tracker is None:
                raise
            self.args.report_to = [name for name in self.args.report_to if name != tracker]
            warn_switched_off(tracker, error)

    def cycle_position(self) -> int:
        """Return TRL's number of micro-batches, from which it knows when to generate."""
        return int(self._step)

    def restore_position(self, position: int) -> None:
        """Go on counting micro-batches from there."""
        self._step = position

    def realign(self) -> None:
        """Count micro-batches from the steps that the run has done, as the sampler is walked to the next one."""
        self._step = self.state.global_step * self.args.gradient_accumulation_steps

    def cycle_sizes(self) -> dict[str, int]:
        """Return how many completions a generation has, and into how many parts it is divided."""
        names = ("per_device_train_batch_size", "steps_per_generation", "gradient_accumulation_steps")
        return {name: getattr(self.args, name) for name in names}

    def cycle_under_way(self) -> Any:
        """Return the generation of which later steps train on a part, or None between two generations."""
        every = self.args.steps_per_generation * self.num_iterations
        return self.cycle_to_state() if self._step % every else None

    def cycle_to_state(self) -> Any:
        """Return what later steps of the generation under way are trained on, as plain values and tensors."""
        return self._buffered_inputs

    def restore_cycle_from(self, state: Any) -> None:
        """Take back what ``cycle_to_state`` gave."""
        self._buffered_inputs = send_to_device(state, self.args.device)
