"""Rows of a batch and the prompt groups that they form. Pure arithmetic on lists and tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from triptych_parser import Refusal

from triptych_trainer.forward import GroupBatch
from triptych_trainer.prompts.prepare import PreparedPrompt

__all__ = ["GroupSplitError", "RowGroups", "check_groups_on_ranks", "group_order", "split_batch"]


class GroupSplitError(Refusal, ValueError):
    """Batch sizes under which the completions of one prompt would be spread over ranks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowGroups:
    """The unique prompts among the rows of a batch, and the rows of each."""

    keys: tuple[int, ...]
    """One key per group, in order of first appearance."""
    members: tuple[tuple[int, ...], ...]
    """Row indices of each group, ascending."""

    @classmethod
    def of(cls, keys: Sequence[int]) -> "RowGroups":
        """Group rows that carry the same key."""
        rows: dict[int, list[int]] = {}
        for row, key in enumerate(keys):
            rows.setdefault(key, []).append(row)
        return cls(keys=tuple(rows), members=tuple(tuple(members) for members in rows.values()))

    @property
    def row_of_result(self) -> list[int]:
        """Row of the batch that each prompt-major result belongs to."""
        return [row for members in self.members for row in members]

    def list_to_rows(self, results: Sequence[Any]) -> list[Any]:
        """Reorder prompt-major results into the batch's row order."""
        by_row = dict(zip(self.row_of_result, results, strict=True))
        return [by_row[row] for row in range(len(by_row))]

    def batch(
        self, prompts: Sequence[PreparedPrompt], completions: Sequence[Sequence[int]] | None = None
    ) -> GroupBatch:
        """Join the prepared prompts (one per group) with the completions (one per row) into a group batch."""
        grouped = None
        if completions is not None:
            grouped = [[completions[row] for row in members] for members in self.members]
        return GroupBatch.build(
            [prompt.ids for prompt in prompts],
            completions=grouped,
            spans=[prompt.spans for prompt in prompts],
            image_indices=_image_indices(prompts),
            images=[inputs for prompt in prompts for inputs in prompt.image_inputs],
        )

    def to_rows(self, results_BC: torch.Tensor, *, width: int) -> torch.Tensor:
        """Reorder prompt-major results into the batch's row order and pad them with zeros to ``width`` columns."""
        order = torch.tensor(self.row_of_result, device=results_BC.device)
        rows_BC = torch.zeros_like(results_BC).index_copy(0, order, results_BC)
        return torch.nn.functional.pad(rows_BC, (0, width - rows_BC.shape[1]))


def _image_indices(prompts: Sequence[PreparedPrompt]) -> list[list[int]]:
    indices, first = [], 0
    for prompt in prompts:
        indices.append(list(range(first, first + len(prompt.image_inputs))))
        first += len(prompt.image_inputs)
    return indices


def group_order(keys: Sequence[int], permutation: Sequence[int]) -> list[int]:
    """Order rows so that groups are shuffled as units: by where ``permutation`` first meets them, rows ascending.

    >>> group_order([7, 7, 8, 8, 9, 9], [5, 0, 3, 4, 1, 2])
    [4, 5, 0, 1, 2, 3]
    """
    groups = RowGroups.of(keys)
    members = dict(zip(groups.keys, groups.members, strict=True))
    met = dict.fromkeys(keys[row] for row in permutation)
    return [row for key in met for row in members[key]]


def split_batch(batch: Mapping[str, Any], *, order: Sequence[int], num_chunks: int) -> list[dict[str, Any]]:
    """Reorder the per-row entries of ``batch`` and cut it into ``num_chunks`` equal parts; scalars are shared."""
    size = len(order) // num_chunks
    index = torch.tensor(list(order))

    def part(value: Any, chunk: torch.Tensor) -> Any:
        if value is None or (isinstance(value, torch.Tensor) and value.ndim == 0):
            return value
        if isinstance(value, torch.Tensor):
            return value[chunk.to(value.device)]
        return [value[row] for row in chunk.tolist()]

    chunks = [index[start : start + size] for start in range(0, size * num_chunks, size)]
    return [{name: part(value, chunk) for name, value in batch.items()} for chunk in chunks]


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
