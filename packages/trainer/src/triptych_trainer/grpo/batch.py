"""The values that the parts of a step exchange: rewards, advantages, log-probabilities, training batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch

from triptych_trainer.rollouts.rollout import Rollout, RolloutGroup, ScoredGroup
from triptych_trainer.rollouts.state import Begin, groups_from_state, groups_to_state

__all__ = [
    "Advantages",
    "Cycle",
    "Experience",
    "Rewards",
    "TokenScores",
    "TrainingBatch",
    "loss_mask",
    "scored_groups",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewards:
    """Contains what every reward function said of every rollout, on all ranks."""

    names: tuple[str, ...]
    """Of the reward functions."""
    scores_BF: torch.Tensor
    """One row for each rollout of all ranks, one column for each function; NaN where it does not apply."""
    keys_B: torch.Tensor
    """The key of each row's group."""
    first_row: int = 0
    """Where the rows of this rank begin; they are in the order of its groups and of their rollouts."""

    @property
    def distinct_names(self) -> tuple[str, ...]:
        """The names of the functions, where two have the same name with a number from the second on."""
        return tuple(
            name if (number := self.names[:k].count(name)) == 0 else f"{name} ({number + 1})"
            for k, name in enumerate(self.names)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Advantages:
    """Says how much better each rollout was than the others of its group, on all ranks, in the order of `Rewards`."""

    values_B: torch.Tensor
    """0 for a rollout that no function scored."""
    without_spread_B: torch.Tensor
    """Whether nothing can be learned from the comparison, because all compared rewards are equal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenScores:
    """Contains the result of a pass for every token of a batch of rollouts; rows are prompt-major, and zero after each
    end.
    """

    logps_BC: torch.Tensor
    entropies_BC: torch.Tensor | None = None
    aux_loss: torch.Tensor | None = None
    """The load-balancing loss of a model with experts, where it was asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingBatch:
    """Contains the data of optimization steps: groups of rollouts, and everything that was computed for them without
    gradient.

    The rows `B` of the tensors are the rollouts, group after group; the columns `C` are their tokens.
    """

    groups: tuple[RolloutGroup, ...]
    advantages: torch.Tensor
    """[B], or [B, C] where tokens have advantages of their own."""
    num_trained_tokens: torch.Tensor
    """Tokens that the loss counts in the whole generation, over all ranks; a scalar."""
    old_logps_BC: torch.Tensor | None = None
    """Under the weights that sampled; None where they are the weights that are trained."""
    reference_logps_BC: torch.Tensor | None = None
    sampling_ratio: torch.Tensor | None = None
    """Corrects for an engine that sampled from a slightly other distribution: [B, C], or [B, 1] per rollout."""
    mean_rows: torch.Tensor | None = None
    """How many rows of a part the loss counts, on average over all parts and ranks; None: all, and parts are equal."""

    @property
    def rollouts(self) -> list[Rollout]:
        """All rollouts in the order of the rows."""
        return [rollout for group in self.groups for rollout in group.rollouts]

    @property
    def keys(self) -> list[int]:
        """The key of each row's group."""
        return [group.key for group in self.groups for _ in group.rollouts]

    @property
    def width(self) -> int:
        """Tokens of the longest rollout."""
        return max((len(rollout.ids) for rollout in self.rollouts), default=0)

    def split(self, order: Sequence[int], *, num_parts: int) -> tuple["TrainingBatch", ...]:
        """Cut the rows, taken in ``order``, into parts of equal size; what does not fill a part is left out.

        Where rows are single turns, the parts have equally many rollouts, each with all of its turns.
        """
        owners, rollouts = self.keys, self.rollouts

        def rollout_of(row: int) -> tuple[int, int]:
            number = rollouts[row].trajectory
            return (owners[row], number) if number is not None else (-1, row)

        units = [list(rows) for _, rows in groupby(order, key=rollout_of)]
        size = len(units) // num_parts
        mean_rows = None if self.mean_rows is None else self.mean_rows / num_parts
        return tuple(
            replace(self.rows([row for unit in units[start : start + size] for row in unit]), mean_rows=mean_rows)
            for start in range(0, size * num_parts, size)
        )

    def rows(self, chosen: Sequence[int]) -> "TrainingBatch":
        """Return some rows in the given order; neighbours that share a prompt form a group, and no column is only
        padding.
        """
        owners = [group for group in self.groups for _ in group.rollouts]
        rollouts = self.rollouts
        groups = tuple(
            owners[run[0]].with_rollouts([rollouts[row] for row in run])
            for run in (list(rows) for _, rows in groupby(chosen, key=lambda row: _prompt_of(owners[row])))
        )
        width = max((len(rollouts[row].ids) for row in chosen), default=0)

        def pick(values: torch.Tensor | None) -> torch.Tensor | None:
            if values is None:
                return None
            picked = values[torch.tensor(list(chosen), device=values.device)]
            return picked[:, :width] if picked.ndim == 2 and picked.shape[1] > 1 else picked

        advantages = pick(self.advantages)
        assert advantages is not None
        return replace(
            self,
            groups=groups,
            advantages=advantages,
            old_logps_BC=pick(self.old_logps_BC),
            reference_logps_BC=pick(self.reference_logps_BC),
            sampling_ratio=pick(self.sampling_ratio),
        )

    def to_state(self) -> dict[str, Any]:
        """Return the batch as numbers, texts, lists and tensors; images that arrived are in it once each."""
        tensors = {name: getattr(self, name) for name in self.__slots__ if name != "groups"}
        return {**groups_to_state(self.groups), **tensors}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], *, begin: Begin, device: torch.device) -> "TrainingBatch":
        """Return the batch that `to_state` wrote; ``begin`` prepares the prompt of a key again."""
        groups = groups_from_state(state, begin=begin)
        tensors = {name: values for name, values in state.items() if name not in ("groups", "images")}
        return cls(groups=groups, **{k: None if v is None else v.to(device) for k, v in tensors.items()})


@dataclass(frozen=True, kw_only=True, slots=True)
class Cycle:
    """Contains the parts of a generation, one for each step that trains on it."""

    keys: tuple[int, ...]
    """The keys of the generation's prompts, in the order in which they were sampled."""
    parts: tuple[TrainingBatch, ...]
    """What each step trains on; a generation that is trained on more than once goes through all parts again."""

    def to_state(self) -> dict[str, Any]:
        """Return the cycle as numbers, texts, lists and tensors."""
        return {"keys": list(self.keys), "parts": [part.to_state() for part in self.parts]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], *, begin: Begin, device: torch.device) -> "Cycle":
        """Return the cycle that `to_state` wrote; ``begin`` prepares the prompt of a key again."""
        parts = (TrainingBatch.from_state(part, begin=begin, device=device) for part in state["parts"])
        return cls(keys=tuple(state["keys"]), parts=tuple(parts))


@dataclass(frozen=True, kw_only=True, slots=True)
class Experience:
    """Contains one generation of this rank: the rollouts, their rewards and advantages, and the batch to train on."""

    groups: tuple[RolloutGroup, ...]
    rewards: Rewards
    advantages: Advantages
    batch: TrainingBatch

    def scored_groups(self) -> list[ScoredGroup]:
        """Return the groups of this rank with their rewards and advantages, for reports."""
        return scored_groups(self.groups, self.rewards, advantages=self.advantages)


def scored_groups(
    groups: Sequence[RolloutGroup], rewards: Rewards, *, advantages: Advantages | None = None
) -> list[ScoredGroup]:
    """Return the groups of this rank, each with the rewards of its rollouts, and their advantages if there are any."""
    found, row = [], rewards.first_row
    for group in groups:
        rows = slice(row, row + len(group))
        row += len(group)
        found.append(
            ScoredGroup(
                group=group,
                rewards={
                    name: _scores(rewards.scores_BF[rows, column]) for column, name in enumerate(rewards.distinct_names)
                },
                advantages=(None,) * len(group) if advantages is None else _scores(advantages.values_B[rows]),
            )
        )
    return found


def _scores(values: torch.Tensor) -> tuple[float | None, ...]:
    """NaN marks "not scored" in a tensor, None in a value."""
    return tuple(None if value != value else value for value in values.tolist())


def _prompt_of(group: RolloutGroup) -> tuple[int, int]:
    """What distinguishes prompts: a `rollout_func` may sample the completions of a row after different prompts."""
    return group.key, id(group.prompt)


def loss_mask(rollouts: Sequence[Rollout], *, width: int, device: torch.device) -> torch.Tensor:
    """Return the boolean mask [B, C] of the tokens that the loss counts."""
    rows = [[*rollout.trained, *[False] * (width - len(rollout.ids))] for rollout in rollouts]
    return torch.tensor(rows, dtype=torch.bool, device=device).view(len(rows), width)
