"""What a generation says about whether anything can be learned."""

from collections.abc import Sequence

from triptych_trainer.grpo.advantages import weighted_totals
from triptych_trainer.grpo.batch import Experience
from triptych_trainer.monitor.no_learning import Generation
from triptych_trainer.rewards import completion_text

__all__ = ["generation_of"]


def generation_of(experience: Experience, *, weights: Sequence[float], cut_share: float) -> Generation:
    """Return what a generation says about learning: scores of all ranks, texts of this rank, and no rewards of weight
    0.
    """
    rewards, groups = experience.rewards, experience.groups
    columns = rewards.scores_BF.T.tolist()
    first = next((rollout for group in groups for rollout in group.rollouts), None)
    several = [group for group in groups if len(group) > 1]
    names = rewards.distinct_names
    return Generation(
        scores={name: column for name, column, weight in zip(names, columns, weights, strict=True) if weight},
        totals=weighted_totals(rewards, weights).tolist(),
        keys=rewards.keys_B.tolist(),
        cut_share=cut_share,
        same_texts=bool(several) and all(len({one.ids for one in group.rollouts}) == 1 for group in several),
        example="" if first is None else completion_text(first.messages),
    )
