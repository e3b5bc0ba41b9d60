"""What the ranks of a run have to agree on."""

import torch
import torch.distributed as dist

__all__ = ["any_rank"]


def any_rank(flag: bool, *, device: torch.device) -> bool:
    """Whether ``flag`` is set on any rank; every rank has to ask, and gets the same answer."""
    if not (dist.is_available() and dist.is_initialized()):
        return flag
    flags = torch.tensor([int(flag)], device=device)
    dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    return bool(flags.item())
