"""Rotary embeddings whose frequencies follow the longest row of a call are used only where they do not.

With the types "dynamic" and "longrope" of transformers, one position beyond a limit of the config changes the
frequencies of every row of that call, and those of later calls. A row then has other log-probabilities next to a long
row than alone, and a token that was sampled before its row grew has others than afterwards. Up to the limit all rows
are exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from triptych_parser import Refusal

__all__ = ["RotaryRangeError", "limit_of", "refuse_beyond_range", "rotary_modules"]


class RotaryRangeError(Refusal, RuntimeError):
    """Says that a row is longer than the range in which the rotary embeddings of each row are its own."""


def rotary_modules(text: torch.nn.Module) -> Iterable[torch.nn.Module]:
    """Yield the rotary embeddings of a text backbone whose frequencies depend on the length of rows."""
    for module in text.modules():
        kinds = getattr(module, "rope_type", None)
        known = kinds.items() if isinstance(kinds, dict) else [(None, kinds)]
        if any(limit_of(module, layer_type) is not None for layer_type, kind in known if isinstance(kind, str)):
            yield module


def limit_of(module: torch.nn.Module, layer_type: str | None = None) -> int | None:
    """Return how many positions a row may have so that its frequencies are its own; None: any number."""
    kinds: Any = module.rope_type
    kind = kinds if isinstance(kinds, str) else kinds.get(layer_type, "default")
    if "dynamic" in kind:
        return int(module.original_max_seq_len)  # type: ignore[arg-type]
    if kind != "longrope":
        return None
    parameters: Any = module.config.rope_parameters  # type: ignore[union-attr]
    own = parameters if isinstance(kinds, str) else parameters[layer_type]
    return int(own["original_max_position_embeddings"])


def refuse_beyond_range(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse positions beyond the limit, as a forward pre-hook of a rotary embedding.

    Raises:
        RotaryRangeError: how long the row is, and the options that keep rows shorter.
    """
    given = [*args, *(kwargs[name] for name in ("position_ids", "layer_type") if name in kwargs)]
    positions, layer_type = given[1], given[2] if len(given) > 2 else None
    limit = limit_of(module, layer_type)
    if limit is None or positions.device.type == "meta" or not positions.numel():
        return
    longest = int(positions.max()) + 1
    if longest > limit:
        kind = module.rope_type if layer_type is None else module.rope_type[layer_type]  # type: ignore[index]
        raise RotaryRangeError(
            f"a row takes {longest} positions with its completion, and beyond {limit} the rotary embeddings of this "
            f"model (rope_type {kind} in its config.json) change with the longest row of a batch, so that no row keeps "
            "its own log-probabilities; find such rows at the start with --max_prompt_tokens (sft: --max_length), at "
            f"most {limit} less --max_completion_length, and shorten them with --max_pixels or leave them out with "
            "--on_bad skip"
        )
