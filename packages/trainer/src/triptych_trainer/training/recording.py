"""The record of a run's rollouts: written where the disk takes them, and never the end of a run where it does not."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from triptych_parser.printable import printable

from triptych_trainer.options.arguments import RunConfig, image_policy
from triptych_trainer.rewards.names import reward_name
from triptych_trainer.rollouts.rollout import ScoredGroup
from triptych_trainer.rollouts.write import RolloutWriter

__all__ = ["rollout_writer", "tolerant"]


def rollout_writer(rewards: Sequence[Callable[..., Any]], config: RunConfig) -> RolloutWriter:
    """Record every generation of this rank below the output folder, with the weights of the rewards."""
    weights = config.grpo.reward_weights or [1.0] * len(rewards)
    names = [reward_name(reward) for reward in rewards]
    return RolloutWriter(
        config.grpo.output_dir,
        rank=config.grpo.process_index,
        weights=dict(zip(names, weights, strict=False)),  # TRL checks their number
        policy=image_policy(config.run),
    )


def tolerant(writer: RolloutWriter) -> Callable[..., None]:
    """Record rollouts with one warning, and no end of the run, where the disk does not take them."""
    has_warned = False

    def record(groups: Sequence[ScoredGroup], *, step: int, mode: str) -> None:
        nonlocal has_warned
        try:
            writer.record(groups, step=step, mode=mode)
        except OSError as error:
            if not has_warned:
                warnings.warn(
                    printable(f"the rollouts of step {step} cannot be written to {writer.folder} ({error})")
                    + "; the run goes on, and the report lacks the steps that could not be written",
                    RuntimeWarning,
                    stacklevel=2,
                )
            has_warned = True

    return record
