"""Advantages of single turns, and rollouts as the samples that are trained on.

    return     R_t = r_t + gamma R_(t+1)
    step       S_t = (R_t - mean) / (std + 1e-4)      over the turns of the group that began in the same state;
                                                      0 for a turn alone, divided by nothing with scale "none"
    advantage  A_t = episode advantage + weight S_t

These are equations 5 to 8 of GiGPO (arXiv 2505.10978). The rewards of a rollout's turns are those that its environment
tells, and what its total contains beyond them counts at its last turn; so they sum to the total.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image

from triptych_trainer.grpo.advantages import EPSILON, Scale
from triptych_trainer.rollouts.rollout import Rollout, RolloutGroup

__all__ = ["anchor_states", "per_token", "returns_of", "step_advantages", "stepwise", "without_limited"]


def step_advantages(
    group: RolloutGroup, totals: Sequence[float], *, gamma: float, scale: Scale
) -> list[tuple[float, ...]]:
    """Return how much better each turn of a group was than others that began in the same state; skip NaN totals."""
    members: dict[Hashable, list[tuple[int, int]]] = {}
    returns = [returns_of(one, total, gamma=gamma) for one, total in zip(group.rollouts, totals, strict=True)]
    for k, (one, total) in enumerate(zip(group.rollouts, totals, strict=True)):
        if total == total:
            for turn, state in enumerate(anchor_states(group, one)):
                members.setdefault(state, []).append((k, turn))
    found = [[0.0] * len(one) for one in returns]
    for places in members.values():
        if len(places) == 1:
            continue
        values = torch.tensor([returns[k][turn] for k, turn in places], dtype=torch.float64)
        gains = values - values.mean()
        if scale != "none":
            gains = gains / (values.std() + EPSILON)
        for (k, turn), gain in zip(places, gains.tolist(), strict=True):
            found[k][turn] = gain
    return [tuple(one) for one in found]


def returns_of(rollout: Rollout, total: float, *, gamma: float) -> list[float]:
    """Return the discounted return of each turn of a rollout that was worth ``total``."""
    count = len(rollout.sampled_runs)
    rewards = list(rollout.turn_rewards or [0.0] * count)[:count]
    if not rewards:
        return []
    rewards[-1] += total - sum(rewards)
    returns = [rewards[-1]]
    for reward in reversed(rewards[:-1]):
        returns.insert(0, reward + gamma * returns[0])
    return returns


def anchor_states(group: RolloutGroup, rollout: Rollout) -> list[Hashable]:
    """Return what the model was shown before each turn: the exact pixels of what arrived last, or its texts without
    images.

    Before the first turn that is what the environment showed, or the prompt.
    """
    states = [_first_state(group)]
    texts = _texts_by_turn(rollout.messages)
    for turn in range(len(rollout.sampled_runs) - 1):
        pixels = tuple(image.digest for image in rollout.images if image.turn == turn)
        states.append(("pixels", pixels) if pixels else ("texts", texts[turn] if turn < len(texts) else ()))
    return states[: len(rollout.sampled_runs)]


def _first_state(group: RolloutGroup) -> Hashable:
    shown = sum(isinstance(piece, Image.Image) for piece in group.observation)
    if shown:
        return "pixels", tuple(group.prompt.image_digests[-shown:])
    return ("texts", tuple(map(str, group.observation))) if group.observation else "prompt"


def _texts_by_turn(messages: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for message in messages:
        if message.get("role") == "assistant":
            found.append(())
        elif found:
            found[-1] = (*found[-1], *_texts(message["content"]))
    return found


def _texts(content: str | Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return (content,) if isinstance(content, str) else tuple(part["text"] for part in content if "text" in part)


def per_token(
    groups: Sequence[RolloutGroup], values_B: torch.Tensor, steps: Sequence[Sequence[float]], *, weight: float
) -> torch.Tensor:
    """Return the advantages [B, C]: for every token, that of its rollout and ``weight`` times that of its turn."""
    rollouts = [one for group in groups for one in group.rollouts]
    width = max((len(one.ids) for one in rollouts), default=0)
    values_BC = values_B[:, None].repeat(1, width)
    for row, (one, gains) in enumerate(zip(rollouts, steps, strict=True)):
        for (start, stop), gain in zip(one.sampled_runs, gains, strict=True):
            values_BC[row, start:stop] += weight * gain
    return values_BC


def without_limited(group: RolloutGroup, finishes: Sequence[str]) -> RolloutGroup:
    """Return the group in which no token counts of the rollouts that ended in one of these ways."""
    return group.with_rollouts([_uncounted(one) if one.finish in finishes else one for one in group.rollouts])


def _uncounted(rollout: Rollout) -> Rollout:
    steps = tuple(_uncounted(step) for step in rollout.steps)
    return replace(rollout, trained=(False,) * len(rollout.ids), steps=steps)


def stepwise(
    groups: Sequence[RolloutGroup], values: torch.Tensor, *, runs: Sequence[Sequence[tuple[int, int]]]
) -> tuple[list[RolloutGroup], torch.Tensor]:
    """Return the turns that are samples of their own in the place of their rollouts, all after the one prompt.

    ``values`` are advantages of rollouts [B], or of their tokens [B, C]; ``runs`` says where each rollout's turns are.
    """
    if not any(one.steps for group in groups for one in group.rollouts):
        return list(groups), values
    found, rows = [], []
    place = iter(zip(values, runs, strict=True))
    for group in groups:
        samples: list[Rollout] = []
        for one in group.rollouts:
            value, own = next(place)
            samples += one.steps
            rows += [value if value.ndim == 0 else value[start] for start, _ in own]
        if samples:
            found.append(group.with_rollouts(samples))
    return found, torch.stack(rows) if rows else values[:0].flatten()
