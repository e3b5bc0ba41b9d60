"""The generation under way: divided into the parts that steps train on, and restored from a checkpoint."""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from triptych_trainer.checkpoints.ranks import any_rank
from triptych_trainer.grpo.batch import Cycle, TrainingBatch
from triptych_trainer.grpo.groups import arrived_by_turn, group_batch, group_order
from triptych_trainer.rollouts.rollout import RolloutGroup
from triptych_trainer.rollouts.state import OtherPromptError

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = ["new_cycle", "restored_cycle"]


def new_cycle(batch: TrainingBatch, *, num_parts: int) -> Cycle:
    """Divide a generation into its parts, whole groups in random order."""
    order = group_order(batch.keys, torch.randperm(len(batch.keys)).tolist())
    return Cycle(keys=tuple(group.key for group in batch.groups), parts=batch.split(order, num_parts=num_parts))


def restored_cycle(
    trainer: "MultiImageGRPOTrainer", state: Any, *, begin: Callable[[int, Sequence[Any]], RolloutGroup]
) -> Cycle | None:
    """Prepare the prompts again, and encode their images in one call as their generation did: equal to the bit.

    Returns None, with a warning, where a row has another prompt by now: its rollouts are no answers to that prompt.

    Images that arrived in rollouts are encoded turn by turn, as then; rollouts that are trained on no more are not.
    ``begin`` makes the group of a key without rollouts.
    """
    changed = cycle = None
    try:
        cycle = Cycle.from_state(state, begin=begin, device=trainer.accelerator.device)
    except OtherPromptError as error:
        changed = str(error)
    if any_rank(changed is not None, device=trainer.accelerator.device):
        if changed is not None:
            warnings.warn(
                f"{changed}, as with a transform that draws at "
                "random: the completions of the generation under way are sampled again, so the run does not go on "
                "exactly as it would have",
                stacklevel=2,
            )
        return None
    assert cycle is not None
    known = {group.key: group for part in cycle.parts for group in part.groups}
    begun = [known[key] if key in known else begin(key, ()) for key in cycle.keys]
    trainer.engine.encode_ahead(
        trainer.model_wrapped, group_batch([group.with_rollouts(()) for group in begun]), keys=cycle.keys
    )
    rollouts = [rollout for part in cycle.parts for rollout in part.rollouts]
    for batch in arrived_by_turn(rollouts):
        trainer.engine.encode_ahead(trainer.model_wrapped, batch, keys=())
    return cycle
