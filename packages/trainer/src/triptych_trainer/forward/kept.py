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

__all__ = ["CUT_OFF", "NO_TOKEN", "all_are_cut", "kept_at", "kept_in_rows", "kept_of", "normalised", "places"]

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


def normalised(logits_KV: torch.Tensor, kept_KJ: torch.Tensor | None, *, temperature: float) -> torch.Tensor:
    """Return the scaled float32 logits over which probabilities are normalised.

    They are `[K, J]` if every row was drawn from some tokens only, else `[K, V]`, with `CUT_OFF` for what is cut off.
    They may be the logits themselves, so nothing may be written into them.
    """
    if kept_KJ is None:
        return logits_KV.float() if temperature == 1 else logits_KV.float() / temperature
    if all_are_cut(kept_KJ):
        scaled_KJ = logits_KV.gather(1, places(kept_KJ)).float() / temperature
        return scaled_KJ.masked_fill_(kept_KJ < 0, CUT_OFF)
    is_cut_KV = (kept_KJ[:, :1] >= 0).expand(-1, logits_KV.shape[1]).clone()
    is_cut_KV.scatter_(1, places(kept_KJ), False)
    return (logits_KV.float() / temperature).masked_fill_(is_cut_KV, CUT_OFF)


def all_are_cut(kept_KJ: torch.Tensor | None) -> bool:
    """Return whether every token of a table was drawn from some tokens only."""
    return kept_KJ is not None and bool((kept_KJ[:, 0] >= 0).all())


def places(kept_KJ: torch.Tensor) -> torch.Tensor:
    """Return the table as indices; what a row is filled up with names its first token once more."""
    return torch.where(kept_KJ < 0, kept_KJ[:, :1].clamp(min=0), kept_KJ).long()
