"""Groups of rollouts as the passes take them, in pieces of a bounded number of rollouts, and shuffled as units."""

from collections.abc import Iterator, Sequence

from triptych_parser import Refusal

from triptych_trainer.forward import BatchError, GroupBatch
from triptych_trainer.rollouts.rollout import RolloutGroup

__all__ = ["GroupSplitError", "check_groups_on_ranks", "group_batch", "group_order", "pieces"]


class GroupSplitError(Refusal, ValueError):
    """Batch sizes under which the completions of one prompt would be spread over ranks."""


def group_batch(groups: Sequence[RolloutGroup]) -> GroupBatch:
    """The batch of these groups for the passes; rollouts go as far as the loss counts their tokens.

    Raises:
        BatchError: a rollout holds images of its own, which the passes do not place.
    """
    for group in groups:
        if any(rollout.images for rollout in group.rollouts):
            raise BatchError(
                f"{group.prompt.example.source}: a rollout of this row holds an image that arrived after the prompt, "
                "and the passes place images in prompts only; leave out what returns images during a rollout"
            )
    indices, first = [], 0
    for group in groups:
        indices.append(list(range(first, first + len(group.prompt.image_inputs))))
        first += len(group.prompt.image_inputs)
    return GroupBatch.build(
        [group.prompt.ids for group in groups],
        completions=[[rollout.scored_ids for rollout in group.rollouts] for group in groups],
        spans=[group.prompt.spans for group in groups],
        image_indices=indices,
        images=[inputs for group in groups for inputs in group.prompt.image_inputs],
    )


def pieces(groups: Sequence[RolloutGroup], *, num_rollouts: int) -> Iterator[list[RolloutGroup]]:
    """Cut groups into pieces of ``num_rollouts`` rollouts, in order; a group that does not fit goes on in the next.

    >>> from types import SimpleNamespace
    >>> group = RolloutGroup(key=7, prompt=None, rollouts=(1, 2, 3))
    >>> [[part.rollouts for part in piece] for piece in pieces([group, group], num_rollouts=2)]
    [[(1, 2)], [(3,), (1,)], [(2, 3)]]
    """
    piece: list[RolloutGroup] = []
    room = num_rollouts
    for group in groups:
        left = group.rollouts
        while left:
            piece.append(group.with_rollouts(left[:room]))
            left, room = left[room:], room - len(piece[-1])
            if room == 0:
                yield piece
                piece, room = [], num_rollouts
    if piece:
        yield piece


def group_order(keys: Sequence[int], permutation: Sequence[int]) -> list[int]:
    """Order rows so that groups are shuffled as units: by where ``permutation`` first meets them, rows ascending.

    >>> group_order([7, 7, 8, 8, 9, 9], [5, 0, 3, 4, 1, 2])
    [4, 5, 0, 1, 2, 3]
    """
    members: dict[int, list[int]] = {}
    for row, key in enumerate(keys):
        members.setdefault(key, []).append(row)
    met = dict.fromkeys(keys[row] for row in permutation)
    return [row for key in met for row in members[key]]


def check_groups_on_ranks(*, per_device: int, steps_per_generation: int, num_generations: int, num_ranks: int) -> None:
    """Check that whole groups fall on one rank, so that a prompt is shared and not computed once per rank.

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
