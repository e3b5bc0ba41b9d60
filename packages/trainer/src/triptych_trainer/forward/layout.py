"""Where every token of a group batch is: in one unpadded row, or in left-padded replicated rows. Index arithmetic only.

The packed row contains, for each prompt and its completions c_1 .. c_G (an example is in docs/architecture.md):

    prompt[:-1] | (prompt[-1], c_1[:-1]) | ... | (prompt[-1], c_G[:-1])

The branch starts at the last prompt token, so that position k of branch j predicts token k of c_j, and no other
position predicts any. Only tokens that are scored are labels: those of tools and environments are not. The last token
of a completion predicts nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from triptych_trainer.forward.batch import GroupBatch
from triptych_trainer.forward.positions import BatchPositions


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Describes one prompt's stretch of the packed row: `prefix` shared tokens from `start`, then branches of these
    lengths.
    """

    start: int
    prefix: int
    branches: tuple[int, ...]
    """Tokens of every completion that has any (an empty completion takes no position)."""
    completions: tuple[int, ...] = ()
    """For each branch, the number of its completion in the group."""

    @property
    def end(self) -> int:
        """First position after the group."""
        return self.start + self.prefix + sum(self.branches)

    @property
    def branch_starts(self) -> tuple[int, ...]:
        """First position of each branch, where the prompt's last token is; its completion begins one after it."""
        first = self.start + self.prefix
        return tuple(first + before for before in accumulate((0, *self.branches[:-1])))[: len(self.branches)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedLayout:
    """Contains the packed row: `ids` `[T]`, and `[K]` tensors over its label positions, in order."""

    ids: torch.Tensor
    groups: tuple[Group, ...]
    label_positions: torch.Tensor
    labels: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    """Where each label's result goes: `[row, column]` of the padded `[num_completions, C]` output."""

    @property
    def completions(self) -> torch.Tensor:
        """Boolean `[T]`: True at the tokens of completions (a branch begins with its prompt's last token)."""
        mask_T = torch.zeros(len(self.ids), dtype=torch.bool)
        for group in self.groups:
            for first, length in zip(group.branch_starts, group.branches, strict=True):
                mask_T[first + 1 : first + length] = True
        return mask_T

    @property
    def prompt_starts(self) -> list[tuple[int, int, int]]:
        """Where every prompt begins: (prompt, row, position), as `merge.image_places` takes it."""
        return [(p, 0, group.start) for p, group in enumerate(self.groups)]

    @property
    def completion_starts(self) -> list[tuple[int, int, int, int]]:
        """Where every completion that has a branch begins: (prompt, completion, row, position)."""
        return [
            (p, completion, 0, first + 1)
            for p, group in enumerate(self.groups)
            for completion, first in zip(group.completions, group.branch_starts, strict=True)
        ]

    def token_weights(self, group_sizes: Sequence[int]) -> torch.Tensor:
        """Return how many replicated rows contain each token `[T]`: all of a prompt's completions for a shared token,
        else 1.
        """
        weights_T = torch.ones(len(self.ids))
        for group, size in zip(self.groups, group_sizes, strict=True):
            weights_T[group.start : group.start + group.prefix] = size
        return weights_T


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedLayout:
    """Contains the replicated rows: prompt b left-padded, completion right-padded, as stock trainers build them.

    `ids` and `mask` are `[B, T]`.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    offsets: tuple[int, ...]
    """Per row, the number of pads before its prompt."""
    prompt_of_row: tuple[int, ...]
    completion_of_row: tuple[int, ...]
    """Per row, the number of its completion in the prompt's group."""
    scored: torch.Tensor
    """Boolean `[B, width]`: which tokens of the completions are scored."""
    width: int
    """Columns that contain completions."""

    @property
    def completions(self) -> torch.Tensor:
        """Boolean `[B, T]`: True at the tokens of completions."""
        return self.mask.bool() & (torch.arange(self.ids.shape[1]) >= self.ids.shape[1] - self.width)

    @property
    def prompt_starts(self) -> list[tuple[int, int, int]]:
        """Where every row's prompt begins: (prompt, row, column)."""
        return [(p, b, offset) for b, (p, offset) in enumerate(zip(self.prompt_of_row, self.offsets, strict=True))]

    @property
    def completion_starts(self) -> list[tuple[int, int, int, int]]:
        """Where every row's completion begins: (prompt, completion, row, column)."""
        first = self.ids.shape[1] - self.width
        pairs = zip(self.prompt_of_row, self.completion_of_row, strict=True)
        return [(p, completion, b, first) for b, (p, completion) in enumerate(pairs)]


def packed_layout(batch: GroupBatch, *, whole: bool = False) -> PackedLayout:
    """Lay all prompts and completions of `batch` into one row (tensors on the CPU).

    With `whole` the row also contains the last token of every completion, and a branch for completions without tokens:
    every token of the replicated rows is then in it.
    """
    ids: list[int] = []
    groups: list[Group] = []
    positions: list[int] = []
    labels: list[int] = []
    rows: list[int] = []
    columns: list[int] = []
    row = 0
    for prompt, completions, trained in zip(batch.prompts, batch.completions, batch.trained, strict=True):
        start, branches, numbers = len(ids), [], []
        ids.extend(prompt[:-1])
        for number, (completion, counted) in enumerate(zip(completions, trained, strict=True)):
            if completion or whole:
                scored = [k for k, counts in enumerate(counted) if counts]
                positions.extend(len(ids) + k for k in scored)
                rows.extend([row] * len(scored))
                columns.extend(scored)
                labels.extend(completion[k] for k in scored)
                ids.append(prompt[-1])
                ids.extend(completion if whole else completion[:-1])
                branches.append(len(completion) + whole)
                numbers.append(number)
            row += 1
        groups.append(Group(start=start, prefix=len(prompt) - 1, branches=tuple(branches), completions=tuple(numbers)))
    return PackedLayout(
        ids=torch.tensor(ids, dtype=torch.long),
        groups=tuple(groups),
        label_positions=torch.tensor(positions, dtype=torch.long),
        labels=torch.tensor(labels, dtype=torch.long),
        rows=torch.tensor(rows, dtype=torch.long),
        columns=torch.tensor(columns, dtype=torch.long),
    )


def packed_positions(layout: PackedLayout, positions: BatchPositions) -> torch.Tensor:
    """Return the position ids `[A, T]` of the packed row, with A rotary axes (1, or 3 for M-RoPE)."""
    parts: list[torch.Tensor] = []
    for p, group in enumerate(layout.groups):
        prompt_AL = positions.prompts[p]
        parts.append(prompt_AL[:, :-1])
        for completion, length in zip(group.completions, group.branches, strict=True):
            parts.append(torch.cat([prompt_AL[:, -1:], positions.of(p, completion, num_tokens=length - 1)], dim=1))
    return torch.cat(parts, dim=1)


def padded_layout(batch: GroupBatch, *, pad_id: int) -> PaddedLayout:
    """Lay every (prompt, completion) pair into its own left-padded row."""
    pairs = [(p, g) for p, group in enumerate(batch.completions) for g in range(len(group))]
    longest = max(len(ids) for ids in batch.prompts)
    width = batch.max_completion_tokens
    ids_BT = torch.full((len(pairs), longest + width), pad_id, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    scored_BC = torch.zeros(len(pairs), width, dtype=torch.bool)
    offsets = []
    for b, (p, g) in enumerate(pairs):
        prompt, completion = batch.prompts[p], batch.completions[p][g]
        offset = longest - len(prompt)
        end = longest + len(completion)
        ids_BT[b, offset:end] = torch.tensor([*prompt, *completion])
        mask_BT[b, offset:end] = 1
        scored_BC[b, : len(completion)] = torch.tensor(batch.trained[p][g], dtype=torch.bool)
        offsets.append(offset)
    return PaddedLayout(
        ids=ids_BT,
        mask=mask_BT,
        offsets=tuple(offsets),
        prompt_of_row=tuple(p for p, _ in pairs),
        completion_of_row=tuple(g for _, g in pairs),
        scored=scored_BC,
        width=width,
    )


def padded_positions(layout: PaddedLayout, positions: BatchPositions) -> torch.Tensor:
    """Return the position ids `[A, B, T]` of the replicated rows; pads are at 0."""
    num_axes = positions.prompts[0].shape[0]
    num_rows, num_tokens = layout.ids.shape
    found_ABT = torch.zeros(num_axes, num_rows, num_tokens, dtype=torch.long)
    rows = zip(layout.prompt_of_row, layout.completion_of_row, layout.offsets, strict=True)
    for b, (p, completion, offset) in enumerate(rows):
        end = offset + positions.prompts[p].shape[1]
        found_ABT[:, b, offset:end] = positions.prompts[p]
        found_ABT[:, b, end:] = positions.of(p, completion, num_tokens=num_tokens - end)
    return found_ABT
