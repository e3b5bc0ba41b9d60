"""Towers that attend window by window or image by image: all of them in one call without a mask, on a GPU.

transformers calls SDPA once for each window, and flash attention once for all of them, where a tower's attention takes
`cu_seqlens`. A tower that was loaded with SDPA gets the kernels of `segments` here, which torch brings; one that was
loaded with another attention keeps it. Where the kernels cannot attend its states or differ from masked attention,
each window is attended by SDPA as before.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from triptych_trainer.forward.attention_choice import uses_segments
from triptych_trainer.forward.segments import Segments
from triptych_trainer.forward.varlen_attention import attend_segments
from triptych_trainer.models.families import Family
from triptych_trainer.upstream.transformers_names import sdpa_attention_forward, sdpa_mask

__all__ = ["TOWER_IMPLEMENTATION", "attends_segments", "join_windows", "part_windows"]

TOWER_IMPLEMENTATION = "triptych_flash_segments"
"""Models look for "flash" in the name, and then call it once for all windows."""


def join_windows(family: Family, vision_model: torch.nn.Module) -> int:
    """Let the towers of a model attend all windows in one call; returns how many configs were changed."""
    configs = [config for config in _configs(family, vision_model) if config._attn_implementation == "sdpa"]
    if configs:
        AttentionInterface.register(TOWER_IMPLEMENTATION, _attend_windows)
        AttentionMaskInterface.register(TOWER_IMPLEMENTATION, sdpa_mask)
    for config in configs:
        config._attn_implementation = TOWER_IMPLEMENTATION
    return len(configs)


def part_windows(family: Family, vision_model: torch.nn.Module) -> bool:
    """Undo `join_windows`; returns whether there was something to undo."""
    joined = [c for c in _configs(family, vision_model) if c._attn_implementation == TOWER_IMPLEMENTATION]
    for config in joined:
        config._attn_implementation = "sdpa"
    return bool(joined)


def attends_segments(module: torch.nn.Module) -> bool:
    """Return whether a module is an attention that takes the bounds of its windows."""
    code = getattr(type(module).forward, "__code__", None)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if code else ()
    return "cu_seqlens" in names and hasattr(module, "config")


def _configs(family: Family, vision_model: torch.nn.Module) -> list[Any]:
    """Configs of the towers' attentions, each once; never that of the language model."""
    text = family.language_model(vision_model)
    towers = [module for _, module in vision_model.named_children() if module is not text]
    found = {id(m.config): m.config for tower in towers for m in tower.modules() if attends_segments(m)}
    found.pop(id(text.config), None)
    return list(found.values())


def _attend_windows(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: torch.Tensor | int | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend states `[1, heads, T, d]` within the windows between `cu_seq_lens_q` -> `[1, T, heads, d]`."""
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if uses_segments(query, key, value, choice="varlen", window=None, dropout=dropout, scaling=scaling):
        longest = int(cu_seq_lens_q.diff().max() if max_length_q is None else max_length_q)
        starts = cu_seq_lens_q.to(query.device, torch.int32)
        segments = Segments(
            starts_q=starts, starts_k=starts, longest_q=longest, longest_k=longest, num_scores=0, causal=False
        )
        return attend_segments(query, key, value, segments, scaling=scaling).transpose(1, 2).contiguous(), None
    lengths = cu_seq_lens_q.diff().tolist()
    windows = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
    parts = [
        sdpa_attention_forward(module, *window, None, dropout=dropout, scaling=scaling, is_causal=False)[0]
        for window in windows
    ]
    return torch.cat(parts, dim=1), None
