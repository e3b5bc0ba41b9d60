"""Completions of a model for held-out examples, scored; each prompt is prefilled once for all of its completions."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig
from triptych_data import Example

from triptych_trainer.evaluation.sampling import sampled_groups, sampling_of_model
from triptych_trainer.evaluation.scores import ScoredRow
from triptych_trainer.grpo.batch import scored_groups
from triptych_trainer.grpo.rewarding import rewards_by_functions
from triptych_trainer.prompts.bad_rows import BadRows
from triptych_trainer.prompts.example_table import Table
from triptych_trainer.prompts.image_info import image_infos
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.report.mentions import image_labels
from triptych_trainer.report.payload import boxes_json, cites
from triptych_trainer.rewards import ImageInfo, completion_text, extract_answer
from triptych_trainer.rollouts.rollout import ScoredGroup
from triptych_trainer.rollouts.turns import records_of, trajectory_of
from triptych_trainer.trajectories.environments import rewards_of
from triptych_trainer.trajectories.play import Play

__all__ = ["score_examples"]


def score_examples(
    model: torch.nn.Module,
    preparer: PromptPreparer,
    *,
    table: Table,
    rewards: Sequence[Callable[..., Any]],
    generation: GenerationConfig,
    num_generations: int,
    batch_size: int,
    on_rollouts: Callable[..., object] | None = None,
    bad_rows: BadRows | None = None,
    verify_model: bool = True,
    play: Play | None = None,
) -> Iterator[list[ScoredRow]]:
    """Yield the scored rows of one batch of prompts after another, in the order of the table.

    ``on_rollouts`` is called once per batch as a trainer's ``on_rollouts`` is. Rows that turn out to be unusable are
    left out where ``bad_rows`` allows it; none takes their place. With ``verify_model`` the model is compared with
    itself as transformers runs it, on prompts of the first batch. With ``play`` rollouts have several turns, and its
    environments score them as well.

    Raises:
        DataError: a row cannot be used and may not be left out.
    """
    sampling = sampling_of_model(model, preparer, generation=generation, verify_model=verify_model, play=play)
    environments = None if play is None else play.environments
    if environments is not None:
        rewards = [*rewards, *rewards_of(environments)]
    for groups in sampled_groups(
        sampling,
        preparer,
        table=table,
        num_generations=num_generations,
        batch_size=batch_size,
        bad_rows=bad_rows,
    ):
        scored = scored_groups(groups, rewards_by_functions(rewards, groups, table=table))
        if on_rollouts is not None:
            on_rollouts(scored, step=0, mode="eval")
        yield [_scored_row(one, columns=table.columns(one.group.key)) for one in scored]


def _scored_row(scored: ScoredGroup, *, columns: dict[str, Any]) -> ScoredRow:
    group, infos = scored.group, image_infos(scored.group.prompt)
    example = group.prompt.example
    return ScoredRow(
        key=example.key,
        example_id=example.id,
        source=example.source,
        num_images=len(infos),
        columns={name: columns[name] for name in (*example.extras, "answer")},
        completions=tuple(completion_text(list(one.messages)) for one in group.rollouts),
        num_tokens=sum(len(group.prompt.ids) + len(one.ids) for one in group.rollouts),
        scores={name: _mean(values) for name, values in scored.rewards.items()},
        answer_image=_answer_image(example.answer, infos, example),
        trajectories=tuple(
            trajectory_of(one, group.prompt, images=records_of(one)) for one in group.rollouts if one.calls is not None
        ),
    )


def _answer_image(answer: str | None, images: Sequence[ImageInfo], example: Example) -> int | None:
    """The one image, from 1, that an expected answer names or has all its boxes in."""
    expected = extract_answer(answer or "") or answer or ""
    turns = zip((turn.role for turn in example.prompt.prompt.turns), example.prompt.shown(), strict=True)
    found = set(cites(expected, images, image_labels(list(turns)))) | {
        box["image"] for box in boxes_json(expected, images, frame="seen")
    }
    known = {index for index in found if index is not None and index >= 0}
    return known.pop() + 1 if len(known) == 1 and len(images) > 1 else None


def _mean(values: Sequence[float | None]) -> float | None:
    scored = [value for value in values if value is not None]
    return sum(scored) / len(scored) if scored else None
