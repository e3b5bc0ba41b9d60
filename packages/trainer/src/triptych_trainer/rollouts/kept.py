"""Tables of the tokens that an engine kept when it drew each token of a rollout; `forward/kept.py` scores by them."""

from collections.abc import Sequence

import torch

__all__ = ["drawn_from_all", "kept_table", "one_after_the_other"]

NO_TOKEN = -1


def kept_table(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the table `[C, J]` of rows of token ids, filled up with -1.

    >>> kept_table([[7, 3], [5]]).tolist()
    [[7, 3], [5, -1]]
    """
    most = max(map(len, rows), default=0)
    filled = [[*row, *[NO_TOKEN] * (most - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.int32).view(len(rows), most)


def drawn_from_all(count: int) -> torch.Tensor:
    """Return the table of tokens that were drawn from all tokens, or that an environment wrote."""
    return torch.empty(count, 0, dtype=torch.int32)


def one_after_the_other(first_CJ: torch.Tensor, second_CJ: torch.Tensor) -> torch.Tensor:
    """Return the table of the tokens of both.

    >>> one_after_the_other(kept_table([[7, 3]]), drawn_from_all(1)).tolist()
    [[7, 3], [-1, -1]]
    """
    most = max(first_CJ.shape[1], second_CJ.shape[1])
    parts = (first_CJ, second_CJ)
    return torch.cat([torch.nn.functional.pad(part, (0, most - part.shape[1]), value=NO_TOKEN) for part in parts])
