"""The model's own forward on its processor's inputs: its own positions, masks, merge and attention."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from triptych_trainer.models.families import Family, family_of
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.upstream.transformers_names import kept_logits, rows_of_logits
from triptych_trainer.verification.stock_inputs import StockInputs

__all__ = ["stock_distributions"]


@torch.no_grad()
def stock_distributions(
    model: torch.nn.Module, inputs: StockInputs, completion: Sequence[int], *, pads: int = 0
) -> torch.Tensor:
    """Return the log-probabilities [C + 1, V] of one row, from the prompt's last position on, with ``pads`` pads on its
    left.
    """
    base = unwrap(model)
    row = _row(inputs, completion, family=family_of(base), pads=pads)
    device = next(base.parameters()).device
    length = row["input_ids"].shape[1]
    keep_K = torch.arange(length - len(completion) - 1, length, device=device)
    named = inspect.signature(type(base).forward).parameters
    given = {name: values.to(device) for name, values in row.items() if name in named}
    keep = kept_logits(base, keep_K)
    try:
        logits = model(**given, **keep, use_cache=False).logits
    except RuntimeError:  # a few towers take pixels in their own precision only
        cast = {name: values.to(base.dtype) if values.is_floating_point() else values for name, values in given.items()}
        logits = model(**cast, **keep, use_cache=False).logits
    return rows_of_logits(base, logits, keep_K)[0].float().log_softmax(-1)


def _row(inputs: StockInputs, completion: Sequence[int], *, family: Family, pads: int) -> Mapping[str, Any]:
    """The prompt's inputs, with pads before them and the completion after them."""
    ids_1L = inputs["input_ids"]
    behind: Mapping[str, int] = {"attention_mask": 1, **family.completion_types}
    row = {}
    for name, values in inputs.items():
        if values.shape != ids_1L.shape:
            row[name] = values
            continue
        tail = torch.full((1, len(completion)), behind.get(name, 0), dtype=values.dtype)
        if name == "input_ids":
            tail = torch.tensor([list(completion)], dtype=values.dtype)
        row[name] = torch.nn.functional.pad(torch.cat([values, tail], dim=1), (pads, 0))
    return row
