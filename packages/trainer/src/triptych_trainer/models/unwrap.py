"""Find the transformers model inside its wrappers."""

from __future__ import annotations

import torch


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """Return the transformers model inside DDP, FSDP, DeepSpeed, torch.compile and PEFT wrappers."""
    while True:
        inner = model.get_base_model() if hasattr(model, "get_base_model") else None
        for name in ("module", "_orig_mod"):
            inner = inner if inner is not None else getattr(model, name, None)
        if not isinstance(inner, torch.nn.Module):
            return model
        model = inner
