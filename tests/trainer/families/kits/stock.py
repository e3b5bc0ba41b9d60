"""The oracle: the model's own forward and generate on the processor's own inputs, nothing of ours."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList
from triptych_trainer.forward.scores import SuppressIds

from .case import Case, Prompts, Stock

ROWS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids")


def stock_row(prompts: Prompts, prompt: int, completion: Sequence[int]) -> Stock:
    """Inputs of one row: what the processor returned, with a completion behind it."""
    inputs = dict(prompts.stock[prompt])
    length = len(completion)
    for name in ROWS:
        if name in inputs and length:
            value = 1 if name == "attention_mask" else prompts.after_prompt.get(name, 0)
            tail = torch.full((1, length), value, dtype=inputs[name].dtype)
            inputs[name] = torch.cat([inputs[name], tail], dim=1)
    if length:
        inputs["input_ids"][0, -length:] = torch.tensor(completion)
    return inputs


def stock_logps(model: torch.nn.Module, prompts: Prompts) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies `[num_completions, C]` of every row by itself."""
    batch = prompts.batch
    width = batch.max_completion_tokens
    logps, entropies = [], []
    for p, group in enumerate(batch.completions):
        start = len(batch.prompts[p])
        for completion in group:
            logits = model(**accepted(model, stock_row(prompts, p, completion))).logits[0]
            z = logits[start - 1 : -1].float().log_softmax(-1)
            row = z.gather(-1, torch.tensor(completion)[:, None])[:, 0]
            logps.append(torch.nn.functional.pad(row, (0, width - len(completion))))
            entropies.append(torch.nn.functional.pad(-(z.exp() * z).sum(-1), (0, width - len(completion))))
    return torch.stack(logps), torch.stack(entropies)


@torch.no_grad()
def stock_generate(
    model: torch.nn.Module, case: Case, prompts: Prompts, *, config: GenerationConfig, banned: tuple[int, ...]
) -> list[list[int]]:
    """Greedy completions of all prompts in one left-padded batch by the model's own `generate`."""
    inputs = accepted(model, left_padded(case, prompts))
    output = model.generate(
        **inputs, generation_config=config, logits_processor=LogitsProcessorList([SuppressIds(banned)])
    )
    rows = output[:, inputs["input_ids"].shape[1] :].tolist()
    return [row[: row.index(config.eos_token_id) + 1] if config.eos_token_id in row else row for row in rows]


def left_padded(case: Case, prompts: Prompts) -> Stock:
    """All prompts as one batch, as the processor builds it with `padding=True`."""
    longest = max(inputs["input_ids"].shape[1] for inputs in prompts.stock)
    return _joined(case, prompts.stock, margins=[(longest - part["input_ids"].shape[1], 0) for part in prompts.stock])


def replicated(case: Case, prompts: Prompts) -> Stock:
    """One row for every completion, as TRL builds them: prompts left-padded, completions right-padded."""
    batch = prompts.batch
    pairs = [(p, completion) for p, group in enumerate(batch.completions) for completion in group]
    longest = max(len(ids) for ids in batch.prompts)
    width = batch.max_completion_tokens
    margins = [(longest - len(batch.prompts[p]), width - len(completion)) for p, completion in pairs]
    return _joined(case, [stock_row(prompts, p, completion) for p, completion in pairs], margins=margins)


def _joined(case: Case, parts: Sequence[Stock], *, margins: Sequence[tuple[int, int]]) -> Stock:
    batch: Stock = {}
    for name in ROWS:
        if name in parts[0]:
            rows = [part[name] for part in parts]
            padded = [torch.nn.functional.pad(row, margin) for row, margin in zip(rows, margins, strict=True)]
            batch[name] = torch.cat(padded)
    images = [
        {name: value for name, value in part.items() if name not in ROWS}
        for part in parts
        if any(name not in ROWS for name in part)
    ]
    if images and case.joint:
        batch |= case.joint(images)
    elif images:
        batch |= {name: torch.cat([part[name] for part in images]) for name in images[0]}
    return batch


def accepted(model: torch.nn.Module, inputs: Stock) -> dict[str, Any]:
    """What the model's forward names; the others are for the processor's own use."""
    names = inspect.signature(type(model).forward).parameters
    return {name: value for name, value in inputs.items() if name in names}
