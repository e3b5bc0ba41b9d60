"""Where every token of a group batch stands: one unpadded row, or left-padded replicated rows. Pure index arithmetic.

Packed (M4 of the notes), for each prompt of L tokens and its completions c_1 .. c_G:

    prompt[:-1] | (prompt[-1], c_1[:-1]) | ... | (prompt[-1], c_G[:-1])

The branch starts at the last prompt token, so that every branch position has exactly one label and no other
position has any: the labels of branch j are c_j itself. The last token of a completion predicts nothing and is left
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from triptych_trainer.forward.batch import GroupBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One prompt's stretch of the packed row: `prefix` shared tokens from `start`, then branches of these lengths."""

    start: int
    prefix: int
    branches: tuple[int, ...]
    """Tokens of every completion that has any (an empty completion takes no position)."""

    @property
    def end(self) -> int:
        """First position behind the group."""
        return self.start + self.prefix + sum(self.branches)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedLayout:
    """The packed row: `ids` `[T]`, and `[K]` tensors over its label positions (all branch positions, in order)."""

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
            first = group.start + group.prefix
            for length in group.branches:
                mask_T[first + 1 : first + length] = True
                first += length
        return mask_T

    def token_weights(self, group_sizes: Sequence[int]) -> torch.Tensor:
        """How many replicated rows hold each token `[T]`: as many as there are completions for a shared one, else 1."""
        weights_T = torch.ones(len(self.ids))
        for group, size in zip(self.groups, group_sizes, strict=True):
            weights_T[group.start : group.start + group.prefix] = size
        return weights_T


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedLayout:
    """The replicated rows: prompt b left-padded, completion right-padded, as stock trainers build them.

    `ids` and `mask` are `[B, T]`.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    offsets: tuple[int, ...]
    """Per row, the number of pads before its prompt."""
    prompt_of_row: tuple[int, ...]
    width: int
    """Columns that hold completions."""

    @property
    def completions(self) -> torch.Tensor:
        """Boolean `[B, T]`: True at the tokens of completions."""
        return self.mask.bool() & (torch.arange(self.ids.shape[1]) >= self.ids.shape[1] - self.width)


def packed_layout(batch: GroupBatch, *, whole: bool = False) -> PackedLayout:
    """Lay all prompts and completions of `batch` into one row (tensors on the CPU).

    With `whole` the row also holds the last token of every completion, and a branch for completions without tokens:
    every token of the replicated rows is then in it.
    """
    ids: list[int] = []
    groups: list[Group] = []
    positions: list[int] = []
    labels: list[int] = []
    rows: list[int] = []
    columns: list[int] = []
    row = 0
    for prompt, completions in zip(batch.prompts, batch.completions, strict=True):
        start, branches = len(ids), []
        ids.extend(prompt[:-1])
        for completion in completions:
            if completion or whole:
                positions.extend(range(len(ids), len(ids) + len(completion)))
                rows.extend([row] * len(completion))
                columns.extend(range(len(completion)))
                labels.extend(completion)
                ids.append(prompt[-1])
                ids.extend(completion if whole else completion[:-1])
                branches.append(len(completion) + whole)
            row += 1
        groups.append(Group(start=start, prefix=len(prompt) - 1, branches=tuple(branches)))
    return PackedLayout(
        ids=torch.tensor(ids, dtype=torch.long),
        groups=tuple(groups),
        label_positions=torch.tensor(positions, dtype=torch.long),
        labels=torch.tensor(labels, dtype=torch.long),
        rows=torch.tensor(rows, dtype=torch.long),
        columns=torch.tensor(columns, dtype=torch.long),
    )


def packed_positions(
    layout: PackedLayout, *, prompt_positions: list[torch.Tensor], next_positions: list[int]
) -> torch.Tensor:
    """Position ids `[A, T]` of the packed row: A rotary axes (1, or 3 for M-RoPE).

    `prompt_positions[p]` is `[A, L_p]`; token k of a completion stands at `next_positions[p] + k` on every axis.
    """
    parts: list[torch.Tensor] = []
    for group, positions_AL, following in zip(layout.groups, prompt_positions, next_positions, strict=True):
        num_axes = positions_AL.shape[0]
        parts.append(positions_AL[:, :-1])
        for length in group.branches:
            tail = torch.arange(following, following + length - 1).expand(num_axes, -1)
            parts.append(torch.cat([positions_AL[:, -1:], tail], dim=1))
    return torch.cat(parts, dim=1)


def padded_layout(batch: GroupBatch, *, pad_id: int) -> PaddedLayout:
    """Lay every (prompt, completion) pair into its own left-padded row."""
    pairs = [(p, c) for p, group in enumerate(batch.completions) for c in group]
    longest = max(len(ids) for ids in batch.prompts)
    width = batch.max_completion_tokens
    ids_BT = torch.full((len(pairs), longest + width), pad_id, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    offsets = []
    for b, (p, completion) in enumerate(pairs):
        prompt = batch.prompts[p]
        offset = longest - len(prompt)
        end = longest + len(completion)
        ids_BT[b, offset:end] = torch.tensor([*prompt, *completion])
        mask_BT[b, offset:end] = 1
        offsets.append(offset)
    return PaddedLayout(
        ids=ids_BT, mask=mask_BT, offsets=tuple(offsets), prompt_of_row=tuple(p for p, _ in pairs), width=width
    )


def padded_positions(
    layout: PaddedLayout, *, prompt_positions: list[torch.Tensor], next_positions: list[int]
) -> torch.Tensor:
    """Position ids `[A, B, T]` of the replicated rows; pads stand at 0."""
    num_axes = prompt_positions[0].shape[0]
    num_rows, num_tokens = layout.ids.shape
    positions = torch.zeros(num_axes, num_rows, num_tokens, dtype=torch.long)
    for b, (p, offset) in enumerate(zip(layout.prompt_of_row, layout.offsets, strict=True)):
        length = prompt_positions[p].shape[1]
        positions[:, b, offset : offset + length] = prompt_positions[p]
        tail = num_tokens - offset - length
        positions[:, b, offset + length :] = torch.arange(next_positions[p], next_positions[p] + tail)
    return positions
