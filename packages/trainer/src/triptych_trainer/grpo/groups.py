"""Groups of rollouts as the passes take them, in pieces of a bounded number of rollouts, and shuffled as units."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from triptych_parser import Refusal

from triptych_trainer.forward import CompletionImage, GroupBatch
from triptych_trainer.models.families import ImageInputs
from triptych_trainer.rollouts.rollout import Rollout, RolloutGroup, image_names

__all__ = ["GroupSplitError", "check_groups_on_ranks", "group_batch", "group_order", "pieces"]


class GroupSplitError(Refusal, ValueError):
    """Says that the completions of one prompt would be spread over ranks under the given batch sizes."""


def group_batch(groups: Sequence[RolloutGroup]) -> GroupBatch:
    """Return the batch of these groups for the passes; rollouts go as far as the loss counts their tokens.

    Images of equal content are one image of the batch, whether they are in prompts or arrived in rollouts.
    """
    images: dict[str, ImageInputs] = {}
    for group in groups:
        images.update(zip(_prompt_keys(group), group.prompt.image_inputs, strict=True))
        images.update((image.digest, image.inputs) for one in group.rollouts for image in one.scored_images)
    place = {key: k for k, key in enumerate(images)}
    return GroupBatch.build(
        [group.prompt.ids for group in groups],
        completions=[[rollout.scored_ids for rollout in group.rollouts] for group in groups],
        spans=[group.prompt.spans for group in groups],
        image_indices=[[place[key] for key in _prompt_keys(group)] for group in groups],
        images=list(images.values()),
        trained=[[rollout.trained[: len(rollout.scored_ids)] for rollout in group.rollouts] for group in groups],
        completion_images=[
            [_arrived(rollout, place, source=group.prompt.example.source) for rollout in group.rollouts]
            for group in groups
        ],
        kept=_kept(groups),
        image_keys=list(images),
        span_names=[group.span_names for group in groups] if any(group.span_names for group in groups) else (),
    )


def _kept(groups: Sequence[RolloutGroup]) -> list[list[torch.Tensor | None]]:
    """Return the tables of kept tokens of all rollouts, as far as the loss counts them; empty if none has one."""
    if all(rollout.kept is None for group in groups for rollout in group.rollouts):
        return []
    return [
        [None if one.kept is None else one.kept[: len(one.scored_ids)] for one in group.rollouts] for group in groups
    ]


def arrived_by_turn(rollouts: Sequence[Rollout]) -> list[GroupBatch]:
    """Return for each turn the images that arrived in it for the first time, as batches that contain only images."""
    turns: dict[int, dict[str, ImageInputs]] = {}
    for rollout in rollouts:
        for image in rollout.scored_images:
            turns.setdefault(image.turn, {})[image.digest] = image.inputs
    return [
        GroupBatch.build([[0]], images=list(images.values()), image_keys=list(images))
        for _, images in sorted(turns.items())
    ]


def _prompt_keys(group: RolloutGroup) -> Sequence[str]:
    """The digests of a prompt's images; where none were taken, their numbers in the row."""
    prompt = group.prompt
    return prompt.image_digests or [f"row {group.key}, image {k}" for k in range(len(prompt.image_inputs))]


def _arrived(rollout: Rollout, place: Mapping[str, int], *, source: str) -> list[CompletionImage]:
    images = rollout.scored_images
    return [
        CompletionImage(image=place[image.digest], span=image.span, name=f"{source}: {name}")
        for image, name in zip(images, image_names(images), strict=True)
    ]


def pieces(groups: Sequence[RolloutGroup], *, num_pieces: int) -> Iterator[list[RolloutGroup]]:
    """Cut groups into pieces of nearly as many rollouts each, in order; a group that does not fit goes on in the next.

    >>> from types import SimpleNamespace
    >>> group = RolloutGroup(key=7, prompt=None, rollouts=(1, 2, 3))
    >>> [[part.rollouts for part in piece] for piece in pieces([group, group], num_pieces=3)]
    [[(1, 2)], [(3,), (1,)], [(2, 3)]]
    """
    total = sum(len(group.rollouts) for group in groups)
    ends = iter([-(-total * (k + 1) // num_pieces) for k in range(num_pieces)])
    piece: list[RolloutGroup] = []
    place, end = 0, next(ends, 0)
    for group in groups:
        left = group.rollouts
        while left:
            piece.append(group.with_rollouts(left[: end - place]))
            place, left = place + len(piece[-1]), left[len(piece[-1]) :]
            if place == end:
                yield piece
                piece, end = [], next((later for later in ends if later > place), end)


def group_order(keys: Sequence[int], permutation: Sequence[int]) -> list[int]:
    """Order rows so that whole groups are shuffled: a group comes where ``permutation`` first names one of its rows.

    >>> group_order([7, 7, 8, 8, 9, 9], [5, 0, 3, 4, 1, 2])
    [4, 5, 0, 1, 2, 3]
    """
    members: dict[int, list[int]] = {}
    for row, key in enumerate(keys):
        members.setdefault(key, []).append(row)
    met = dict.fromkeys(keys[row] for row in permutation)
    return [row for key in met for row in members[key]]


def check_groups_on_ranks(*, per_device: int, steps_per_generation: int, num_generations: int, num_ranks: int) -> None:
    """Check that whole groups are on one rank, so that a prompt is shared and not computed once per rank.

    Raises:
        GroupSplitError: with the arithmetic and the nearest sizes that work.
    """
    local = per_device * steps_per_generation
    if num_ranks > 1 and local % num_generations:
        fitting = -(-local // num_generations) * num_generations
        raise GroupSplitError(
            f"each of {num_ranks} ranks generates per_device_train_batch_size {per_device} x steps_per_generation "
            f"{steps_per_generation} = {local} completions, which is not a multiple of num_generations "
            f"{num_generations}: a prompt's completions would be spread over ranks; make the product {fitting}, or "
            f"num_generations a divisor of {local}"
        )
