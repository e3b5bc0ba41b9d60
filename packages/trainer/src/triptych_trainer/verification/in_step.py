"""The rows that ranks compare on where they share the weights of a model, and so have to forward in step."""

from collections.abc import Sequence

import torch.distributed as dist

from triptych_trainer.forward.batch import GroupBatch
from triptych_trainer.verification.comparison import ComparedRow
from triptych_trainer.verification.ranks import of_ranks

__all__ = ["rows_in_step"]


def rows_in_step(batch: GroupBatch, rows: Sequence[ComparedRow]) -> tuple[GroupBatch, Sequence[ComparedRow]]:
    """Return rows whose stock forward runs the same modules on every rank: with images on all, or on none.

    A rank without images would skip the tower, whose weights the other ranks wait for. Each rank keeps its own rows if
    those that are in step show images wherever any rank has images. Otherwise all ranks get the rows of the one with
    the most images.
    """
    images = of_ranks([len(spans) for spans in batch.spans])
    places = range(min(len(numbers) for numbers in images))
    kept = [k for k in places if len({numbers[k] > 0 for numbers in images}) == 1]
    if kept and any(images[0][k] for k in kept) == any(any(numbers) for numbers in images):
        return batch.select(kept)[0], [rows[k] for k in kept]
    owner = max(range(len(images)), key=lambda rank: max(images[rank], default=-1))
    found = [(batch, list(rows))]
    dist.broadcast_object_list(found, src=owner)
    return found[0]
