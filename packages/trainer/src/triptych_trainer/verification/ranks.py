"""What the other ranks of a run have found."""

from typing import TypeVar

import torch.distributed as dist

__all__ = ["of_ranks"]

Value = TypeVar("Value")


def of_ranks(value: Value) -> list[Value]:
    """Return the values of all ranks, in their order; every rank calls this at the same time."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    found: list[Value] = [value] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found
