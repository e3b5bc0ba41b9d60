"""Completions of a model for held-out examples, scored; each prompt is prefilled once for all of its completions."""

import asyncio
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig
from triptych_data import Example

from triptych_trainer.evaluation.scores import ScoredRow
from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.grpo.groups import RowGroups
from triptych_trainer.prompts.image_info import image_infos
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.prompts.table import ExampleTable
from triptych_trainer.report.mentions import labels_of
from triptych_trainer.report.payload import boxes_json, cites
from triptych_trainer.rewards import ImageInfo, extract_answer

__all__ = ["score_examples"]


def score_examples(
    model: torch.nn.Module,
    preparer: PromptPreparer,
    *,
    table: ExampleTable,
    rewards: Sequence[Callable[..., Any]],
    generation: GenerationConfig,
    num_generations: int,
    batch_size: int,
    on_rollouts: Callable[[dict[str, Any]], object] | None = None,
) -> Iterator[list[ScoredRow]]:
    """Yield the scored rows of one batch of prompts after another, in the order of the table.

    ``on_rollouts`` is called once per batch with what a trainer's ``on_rollouts`` gets, without advantages.
    """
    engine = GroupEngine()
    for start in range(0, len(table), batch_size):
        indices = range(start, min(start + batch_size, len(table)))
        for index in range(indices.stop, min(indices.stop + batch_size, len(table))):
            preparer.prefetch(table.examples[index])
        prompts = [preparer(table.examples[index]) for index in indices]
        engine.forget()
        groups = engine.generate(
            model,
            RowGroups.of(list(indices)).batch(prompts),
            keys=list(indices),
            group_sizes=[num_generations] * len(prompts),
            generation_config=generation,
        )
        texts = [preparer.processor.tokenizer.batch_decode(group, skip_special_tokens=True) for group in groups]
        columns = [{**table.row(index), "images": image_infos(p)} for index, p in zip(indices, prompts, strict=True)]
        scores = _scores(rewards, columns=columns, texts=texts, ids=groups)
        if on_rollouts is not None:
            on_rollouts(_rollouts(columns, texts=texts, ids=groups, scores=scores))
        yield [
            ScoredRow(
                example_id=row["example_id"],
                source=row["source"],
                num_images=len(row["images"]),
                columns={name: row[name] for name in (*table.extra_names, "answer")},
                completions=tuple(group),
                num_tokens=sum(len(prompts[k].ids) + len(ids) for ids in groups[k]),
                scores={name: _mean(values[k]) for name, values in scores.items()},
                answer_image=_answer_image(row["answer"], row["images"], table.examples[row["example"]]),
            )
            for k, (row, group) in enumerate(zip(columns, texts, strict=True))
        ]


def _scores(
    rewards: Sequence[Callable[..., Any]],
    *,
    columns: Sequence[dict[str, Any]],
    texts: Sequence[Sequence[str]],
    ids: Sequence[Sequence[list[int]]],
) -> dict[str, list[list[float | None]]]:
    """Scores [rows][completions] by reward, from functions in TRL's convention."""
    repeats = [len(group) for group in texts]
    repeated = {
        name: [row[name] for row, times in zip(columns, repeats, strict=True) for _ in range(times)]
        for name in columns[0]
        if name != "prompt"
    }
    prompts = [row["prompt"] for row, times in zip(columns, repeats, strict=True) for _ in range(times)]
    completions = [[{"role": "assistant", "content": text}] for group in texts for text in group]
    flat_ids = [list(entry) for group in ids for entry in group]
    found = {}
    for reward in rewards:
        result = reward(prompts=prompts, completions=completions, completion_ids=flat_ids, **repeated)
        values = iter(asyncio.run(result) if inspect.iscoroutine(result) else result)
        found[reward.__name__] = [[next(values) for _ in range(times)] for times in repeats]
    return found


def _rollouts(
    columns: Sequence[dict[str, Any]],
    *,
    texts: Sequence[Sequence[str]],
    ids: Sequence[Sequence[list[int]]],
    scores: dict[str, list[list[float | None]]],
) -> dict[str, Any]:
    """One batch in the form that ``RolloutWriter.record`` takes."""
    rows = [row for row, group in zip(columns, texts, strict=True) for _ in group]
    return {
        "step": 0,
        "mode": "eval",
        "rows": rows,
        "images": [row["images"] for row in rows],
        "completions": [text for group in texts for text in group],
        "num_tokens": [len(entry) for group in ids for entry in group],
        "rewards": {name: [score for group in values for score in group] for name, values in scores.items()},
        "advantages": [None] * len(rows),
    }


def _answer_image(answer: str | None, images: Sequence[ImageInfo], example: Example) -> int | None:
    """The one image, from 1, that an expected answer names or has all its boxes in."""
    expected = extract_answer(answer or "") or answer or ""
    turns = zip((turn.role for turn in example.prompt.prompt.turns), example.prompt.pieces(), strict=True)
    found = set(cites(expected, images, labels_of(list(turns)))) | {
        box["image"] for box in boxes_json(expected, images, frame="seen")
    }
    known = {index for index in found if index is not None and index >= 0}
    return known.pop() + 1 if len(known) == 1 and len(images) > 1 else None


def _mean(values: Sequence[float | None]) -> float | None:
    scored = [value for value in values if value is not None]
    return sum(scored) / len(scored) if scored else None
