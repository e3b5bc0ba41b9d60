"""Whether ranks have a model's weights whole or share them."""

from __future__ import annotations

import torch
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor


def is_sharded(model: torch.nn.Module) -> bool:
    """Return whether FSDP or ZeRO-3 spreads the weights over ranks.

    Parts of such a model run only inside a call of the whole wrapped model, and in step on all ranks.
    """
    if any(isinstance(module, FullyShardedDataParallel) for module in model.modules()):
        return True
    return any(isinstance(parameter, DTensor) or hasattr(parameter, "ds_id") for parameter in model.parameters())
