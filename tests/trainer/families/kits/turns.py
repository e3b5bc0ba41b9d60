"""Trajectories of a family under test: completions in which images arrive, and the stock inputs of every whole row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from triptych_parser import ImageSpan
from triptych_trainer.forward import CompletionImage, GroupBatch
from triptych_trainer.models.families import family_of
from triptych_trainer.models.image_processor import image_processor_of

from .case import Case, Stock, call_processor, counts_of, find_spans, picture, placeholder_id
from .stock import ROWS, accepted

SAMPLED = (3, 5, 2, 4, 1)
"""Tokens of each sampled stretch, one after another."""


@dataclass(frozen=True, kw_only=True)
class Trajectories:
    """A batch as our passes take it, and the stock inputs of each of its rows."""

    batch: GroupBatch
    stock: tuple[Stock, ...]
    """One for each completion, prompt-major."""


@dataclass(frozen=True, kw_only=True)
class _Turn:
    """What arrives between two sampled stretches: text, one image, text."""

    ids: list[int]
    span: ImageSpan
    image: Any
    stock: Stock


def build_trajectories(
    case: Case,
    model: torch.nn.Module,
    processor: Any,
    *,
    images: Sequence[int],
    turns: Sequence[Sequence[Sequence[int]]],
    seed: int = 0,
) -> Trajectories:
    """Prompts with so many images; `turns[p][g]` numbers the pictures that arrive in a completion, one a turn."""
    noise = np.random.default_rng(seed)
    family, placeholder = family_of(model), placeholder_id(case, processor)
    unique: list[Any] = []
    prompts, spans, indices, rows, completions, trained, arrived = [], [], [], [], [], [], []
    pictures = [picture(noise, number) for number in range(1 + max(k for g in turns for row in g for k in row or [0]))]
    known = [_turn(case, model, processor, shown, number) for number, shown in enumerate(pictures)]
    places = {number: len(unique) + number for number in range(len(known))}
    unique += [turn.image for turn in known]
    for p, count in enumerate(images):
        shown = [picture(noise, 7 + p + k) for k in range(count)]
        text = "abcd"[p % 4] * (2 + p) + "".join(f"{case.marker}{'xyz'[k % 3] * (1 + k)}" for k in range(count)) + "?\n"
        outputs = call_processor(case, processor, text, shown)
        own = family.preprocess(image_processor_of(processor), shown)
        prompts.append(outputs["input_ids"][0].tolist())
        spans.append(find_spans(prompts[-1], placeholder=placeholder, counts=counts_of(model, own)))
        indices.append(list(range(len(unique), len(unique) + count)))
        unique += own
        group = [_completion([(places[k], known[k]) for k in numbers], noise) for numbers in turns[p]]
        completions.append([ids for ids, _, _ in group])
        trained.append([counted for _, counted, _ in group])
        arrived.append([found for _, _, found in group])
        rows += [
            _row(case, outputs, ids, counted, [known[k].stock for k in numbers])
            for (ids, counted, _), numbers in zip(group, turns[p], strict=True)
        ]
    batch = GroupBatch.build(
        prompts,
        spans=spans,
        image_indices=indices,
        completions=completions,
        images=unique,
        trained=trained,
        completion_images=arrived,
    )
    return Trajectories(batch=batch, stock=tuple(rows))


def rollouts_so_far(
    batch: GroupBatch, sampled: Sequence[Sequence[Sequence[int]]], arrived: Sequence[Sequence[Arrival | None]]
) -> GroupBatch:
    """Every rollout that goes on as a prompt of its own: what was sampled, then what arrived; None ends a rollout."""
    pairs = [
        (p, ids, turn)
        for p, (group, turns) in enumerate(zip(sampled, arrived, strict=True))
        for ids, turn in zip(group, turns, strict=True)
        if turn is not None
    ]
    images, keys = list(batch.images), list(batch.image_keys)
    prompts, spans, indices = [], [], []
    for p, ids, turn in pairs:
        first = len(batch.prompts[p]) + len(ids)
        prompts.append((*batch.prompts[p], *ids, *turn.ids))
        spans.append(list(batch.spans[p]))
        indices.append(list(batch.image_indices[p]))
        if turn.image is not None:
            if turn.key not in keys:
                keys.append(turn.key)
                images.append(turn.image)
            spans[-1].append(_later(turn.span, first, len(indices[-1])))
            indices[-1].append(keys.index(turn.key))
    return GroupBatch.build(prompts, spans=spans, image_indices=indices, images=images, image_keys=keys)


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """What arrives behind a rollout: tokens, and perhaps an image among them."""

    ids: list[int]
    span: ImageSpan | None = None
    image: Any = None
    key: str = ""


def arrivals(case: Case, model: torch.nn.Module, processor: Any, *, count: int, seed: int = 5) -> list[Arrival]:
    """So many turns with an image each, and one of text alone at the end."""
    noise = np.random.default_rng(seed)
    turns = [_turn(case, model, processor, picture(noise, number), number) for number in range(count)]
    found = [
        Arrival(ids=turn.ids, span=turn.span, image=turn.image, key=f"arrived {k}") for k, turn in enumerate(turns)
    ]
    return [*found, Arrival(ids=noise.integers(1, 250, 3).tolist())]


def _later(span: ImageSpan, first: int, image: int) -> ImageSpan:
    runs = tuple((first + start, length) for start, length in span.runs)
    return ImageSpan(start=first + span.start, length=span.length, image=image, runs=runs)


def _turn(case: Case, model: torch.nn.Module, processor: Any, shown: Any, number: int) -> _Turn:
    outputs = call_processor(case, processor, f"{'uvw'[number % 3] * 2}{case.marker}t", [shown])
    (own,) = family_of(model).preprocess(image_processor_of(processor), [shown])
    ids = outputs["input_ids"][0].tolist()
    (span,) = find_spans(ids, placeholder=placeholder_id(case, processor), counts=counts_of(model, [own]))
    return _Turn(ids=ids, span=span, image=own, stock=outputs)


def _completion(
    turns: Sequence[tuple[int, _Turn]], noise: np.random.Generator
) -> tuple[list[int], list[bool], list[CompletionImage]]:
    ids: list[int] = noise.integers(1, 250, SAMPLED[0]).tolist()
    trained, found = [True] * len(ids), []
    for k, (image, turn) in enumerate(turns):
        first = len(ids)
        found.append(
            CompletionImage(image=image, span=_later(turn.span, first, k), name=f"turn {k + 1}, image 1 of `look`")
        )
        sampled = noise.integers(1, 250, SAMPLED[(k + 1) % len(SAMPLED)]).tolist()
        ids += [*turn.ids, *sampled]
        trained += [False] * len(turn.ids) + [True] * len(sampled)
    return ids, trained, found


def _row(case: Case, prompt: Stock, ids: Sequence[int], trained: Sequence[bool], turns: Sequence[Stock]) -> Stock:
    """The processor's own inputs of the prompt, then of every turn, with sampled tokens between them."""
    parts = iter(turns)
    stretches: list[tuple[bool, list[int]]] = []
    for token, counts in zip(ids, trained, strict=True):
        if not stretches or stretches[-1][0] != counts:
            stretches.append((counts, []))
        stretches[-1][1].append(token)
    row: Stock = {name: prompt[name] for name in ROWS if name in prompt}
    for counts, tokens in stretches:
        part = None if counts else next(parts)
        for name, values in row.items():
            value = 1 if name == "attention_mask" else case.after_prompt.get(name, 0)
            tail = torch.full((1, len(tokens)), value, dtype=values.dtype) if part is None else part[name]
            if name == "input_ids":
                tail = torch.tensor([tokens])
            row[name] = torch.cat([values, tail], dim=1)
    shown = [{k: v for k, v in part.items() if k not in ROWS} for part in (prompt, *turns)]
    shown = [part for part in shown if part]
    if shown and case.joint:
        return row | case.joint(shown)
    return row | {name: torch.cat([part[name] for part in shown]) for name in (shown[0] if shown else ())}


def stock_trajectory_logps(model: torch.nn.Module, made: Trajectories) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies `[num_completions, C]` of every row by itself, zero at what is not scored."""
    batch, logps, entropies = made.batch, [], []
    width = batch.max_completion_tokens
    pairs = [(p, g) for p, group in enumerate(batch.completions) for g in range(len(group))]
    for (p, g), inputs in zip(pairs, made.stock, strict=True):
        ids, counted = batch.completions[p][g], torch.tensor(batch.trained[p][g])
        z = model(**accepted(model, inputs)).logits[0][len(batch.prompts[p]) - 1 : -1].float().log_softmax(-1)
        row = z.gather(-1, torch.tensor(ids)[:, None])[:, 0] * counted
        entropy = -(z.exp() * z).sum(-1) * counted
        logps.append(torch.nn.functional.pad(row, (0, width - len(ids))))
        entropies.append(torch.nn.functional.pad(entropy, (0, width - len(ids))))
    return torch.stack(logps), torch.stack(entropies)
