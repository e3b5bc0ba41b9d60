"""The tokens among which each completion token was drawn, where an engine cut off the others (`top_p`, `top_k`).

A table `[C, J]` has one row for each token, filled up with -1. A row that contains only -1 was drawn from all tokens.
Scores are then normalised over the same tokens, as the "keep sampling mask" of DeepSeek-V3.2 (arXiv:2512.02556,
section 3.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from triptych_trainer.forward.batch import GroupBatch

__all__ = ["CUT_OFF", "NO_TOKEN", "cut_logits", "kept_at", "kept_in_rows", "kept_of"]

NO_TOKEN = -1
"""What fills up the rows of a table."""
CUT_OFF = -1e20
"""The logit of a token that was cut off: its probability is exactly 0, and 0 times its logarithm is 0."""


def kept_of(batch: GroupBatch, *, width: int) -> torch.Tensor | None:
    """Return the tables of all completions, `[num_completions, width, J]`; None if every token was drawn from all."""
    tables = [table for group in batch.kept for table in group]
    most = max((table.shape[1] for table in tables if table is not None), default=0)
    if not most:
        return None
    kept_BCJ = torch.full((len(tables), width, most), NO_TOKEN, dtype=torch.int32)
    for row, table in enumerate(tables):
        if table is not None:
            kept_BCJ[row, : table.shape[0], : table.shape[1]] = table
    return kept_BCJ


def kept_in_rows(batch: GroupBatch, *, width: int, device: torch.device) -> torch.Tensor | None:
    """Return the tables of all completions one after the other, `[num_completions * width, J]`."""
    kept_BCJ = kept_of(batch, width=width)
    return None if kept_BCJ is None else kept_BCJ.flatten(0, 1).to(device)


def kept_at(
    batch: GroupBatch, rows_K: torch.Tensor, columns_K: torch.Tensor, *, device: torch.device
) -> torch.Tensor | None:
    """Return the table of some completion tokens, `[K, J]`, given by their rows and columns in a pass's results."""
    kept_BCJ = kept_of(batch, width=batch.max_completion_tokens)
    return None if kept_BCJ is None else kept_BCJ[rows_K.cpu(), columns_K.cpu()].to(device)


def cut_logits(scaled_KV: torch.Tensor, kept_KJ: torch.Tensor | None) -> torch.Tensor:
    """Give `CUT_OFF` to the logits of tokens that were cut off, in place."""
    if kept_KJ is None:
        return scaled_KV
    num_rows, vocabulary = scaled_KV.shape
    is_cut_KV = torch.ones(num_rows, vocabulary + 1, dtype=torch.bool, device=scaled_KV.device)
    is_cut_KV.scatter_(1, torch.where(kept_KJ < 0, vocabulary, kept_KJ).long(), False)
    is_cut_KV &= (kept_KJ >= 0).any(dim=1, keepdim=True)
    return scaled_KV.masked_fill_(is_cut_KV[:, :vocabulary], CUT_OFF)
