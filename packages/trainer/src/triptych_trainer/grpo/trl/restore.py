"""The generation under way, as a checkpoint wrote it down, back on TRL's trainer."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from triptych_trainer.grpo.batch import Cycle
from triptych_trainer.grpo.groups import arrived_by_turn, group_batch
from triptych_trainer.rollouts.rollout import RolloutGroup

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = ["restored_cycle"]


def restored_cycle(
    trainer: "MultiImageGRPOTrainer", state: Any, *, begin: Callable[[int, Sequence[Any]], RolloutGroup]
) -> Cycle:
    """Prepare the prompts again, and encode their images in one call as their generation did: equal to the bit.

    Images that arrived in rollouts are encoded turn by turn, as then; rollouts that are trained on no more are not.
    ``begin`` makes the group of a key without rollouts.
    """
    cycle = Cycle.from_state(state, begin=begin, device=trainer.accelerator.device)
    known = {group.key: group for part in cycle.parts for group in part.groups}
    begun = [known[key] if key in known else begin(key, ()) for key in cycle.keys]
    trainer.engine.encode_ahead(
        trainer.model_wrapped, group_batch([group.with_rollouts(()) for group in begun]), keys=cycle.keys
    )
    rollouts = [rollout for part in cycle.parts for rollout in part.rollouts]
    for batch in arrived_by_turn(rollouts):
        trainer.engine.encode_ahead(trainer.model_wrapped, batch, keys=())
    return cycle
