"""Rollouts before TRL's reward functions: every rollout with its row's columns, scores gathered from all ranks."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.grpo.batch import Rewards
from triptych_trainer.grpo.keywords import taking
from triptych_trainer.grpo.rewarding import completions_for_rewards, lacking_of, own_arguments, reward_columns
from triptych_trainer.rollouts.rollout import RolloutGroup
from triptych_trainer.upstream.trl_names import TESTED_TRL

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = ["reward_groups"]


def reward_groups(trainer: "MultiImageGRPOTrainer", groups: Sequence[RolloutGroup]) -> Rewards:
    """Call every reward function of the trainer once, with the rollouts of this rank.

    Raises:
        IncompatibleVersionError: TRL returned something else than one row of scores for each rollout of all ranks.
    """
    found = [trainer.tables.columns(group.key, group.prompt.example) for group in groups]
    columns = reward_columns(
        found,
        groups,
        only_images=bool(trainer.args.remove_unused_columns),
    )
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    if trainer.play is not None and trainer.play.environments is not None:
        trainer.environments = [rollout.for_rewards.environment for rollout in rollouts]
    prompts, own = own_arguments(trainer.tables, groups, columns=columns)
    rows = [{**row, **rollout.for_rewards.columns} for row, rollout in zip(own, rollouts, strict=True)]
    completions = [completion for group in groups for completion in completions_for_rewards(group)]
    with _taking(trainer, lacking=lacking_of(found)):
        scores_BF = trainer._calculate_rewards(
            rows,
            prompts,
            completions,
            [list(rollout.ids) for rollout in rollouts],
        )
    accelerator = trainer.accelerator
    expected = (accelerator.num_processes * len(rollouts), len(trainer.reward_func_names))
    if tuple(scores_BF.shape) != expected:
        raise IncompatibleVersionError(
            f"GRPOTrainer._calculate_rewards returned scores of shape {tuple(scores_BF.shape)}, expected {expected} "
            f"(rollouts of all ranks, reward functions); tested with trl {TESTED_TRL}"
        )
    keys = torch.tensor([group.key for group in groups for _ in group.rollouts], device=accelerator.device)
    return Rewards(
        names=tuple(trainer.reward_func_names),
        scores_BF=scores_BF,
        keys_B=accelerator.gather(keys),
        first_row=accelerator.process_index * len(rollouts),
    )


@contextmanager
def _taking(trainer: "MultiImageGRPOTrainer", *, lacking: Collection[str]) -> Iterator[None]:
    """Let TRL call every reward function with the keywords that it takes."""
    given = trainer.reward_funcs
    trainer.reward_funcs = [taking(reward, lacking=lacking) for reward in given]
    try:
        yield
    finally:
        trainer.reward_funcs = given
