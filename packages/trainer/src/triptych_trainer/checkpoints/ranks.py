"""What the ranks of a run have to agree on."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate.utils import broadcast_object_list

__all__ = ["any_rank", "decided_by_first"]

Decision = TypeVar("Decision")


def any_rank(flag: bool, *, device: torch.device) -> bool:
    """Return whether ``flag`` is set on any rank; every rank has to ask, and gets the same answer."""
    if not (dist.is_available() and dist.is_initialized()):
        return flag
    flags = torch.tensor([int(flag)], device=device)
    dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    return bool(flags.item())


def decided_by_first(decide: Callable[[], Decision], *, rank: int) -> Decision:
    """Return what ``decide`` returns on the first rank, on every rank; what it raises is raised on every rank as well.

    Every rank has to call it. The value or the error is pickled on its way.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return decide()
    outcome: list[Any] = [None, None]
    if rank == 0:
        try:
            outcome[0] = decide()
        except Exception as error:  # raised again below, so that no rank waits for one that has ended
            outcome[1] = error
    value, failure = broadcast_object_list(outcome)
    if failure is not None:
        raise failure
    return value
