"""Completions for the rows of a table, batch after batch, by a model or by an engine; nothing here scores them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from transformers import GenerationConfig
from triptych_data import DataError

from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.grpo.sampler import end_ids_of, model_sampler
from triptych_trainer.grpo.step import Sampled, Sampler, rollout
from triptych_trainer.grpo.trl.completions import completion_reader
from triptych_trainer.grpo.vllm.request import request
from triptych_trainer.grpo.vllm.rollouts import vllm_rollouts
from triptych_trainer.prompts.bad_rows import BadRows
from triptych_trainer.prompts.example_table import Table
from triptych_trainer.prompts.prepare import PreparedPrompt, PromptPreparer
from triptych_trainer.rollouts.rollout import RolloutGroup
from triptych_trainer.trajectories.play import Play
from triptych_trainer.verification.first_use import verify_first_use

__all__ = ["Engine", "Sampling", "sampled_groups", "sampling_of_engine", "sampling_of_model"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Contains what samples completions for an evaluation."""

    sampler: Sampler
    before: Callable[[Sequence[PreparedPrompt]], object] = lambda prompts: None
    """Called with the prompts of each batch before any of them is sampled for."""
    play: Play | None = None
    """Plays rollouts of several turns, with tools or in environments."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """Gives a vLLM engine without a trainer the names that TRL's ``VLLMGeneration`` has for the same things."""

    llm: Any
    """vLLM's ``LLM``."""
    temperature: float
    max_completion_length: int
    mode: str = "colocate"
    tensor_parallel_size: int = 1
    """Among the processes that call the engine; the engine itself may split the model over processes that it starts."""
    enable_sleep_mode: bool = False
    structured_outputs_regex: str | None = None
    repetition_penalty: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float | None = None
    logprobs: int = 0
    generation_kwargs: Mapping[str, Any] = field(default_factory=dict)


def sampling_of_engine(
    engine: Engine,
    preparer: PromptPreparer,
    *,
    generation: GenerationConfig,
    banned_ids: Sequence[int],
    sampling_params: Callable[..., Any] | None = None,
) -> Sampling:
    """Sample from a vLLM engine, which is sent each prompt once, as a run sends it.

    Args:
        banned_ids: ids that are never to be sampled: those that represent images.
        sampling_params: vLLM's ``SamplingParams``; taken from vllm by default.
    """

    def sample(groups: Sequence[RolloutGroup], sizes: Sequence[int]) -> list[list[Sampled]]:
        requests = [
            request(group.prompt, preparer, num_completions=size) for group, size in zip(groups, sizes, strict=True)
        ]
        return vllm_rollouts(engine, requests, banned_ids=banned_ids, sampling_params=sampling_params, options=options)

    read, end_ids = completion_reader(preparer.processor.tokenizer), end_ids_of(generation)
    options = {"stop_token_ids": sorted(end_ids)}
    return Sampling(sampler=Sampler(sample=sample, read=read, end_ids=end_ids))


def sampling_of_model(
    model: torch.nn.Module,
    preparer: PromptPreparer,
    *,
    generation: GenerationConfig,
    verify_model: bool = True,
    play: Play | None = None,
) -> Sampling:
    """Sample from a transformers model, each prompt prefilled once for all of its completions.

    With ``verify_model`` the model is compared with itself as transformers runs it, on prompts of the first batch. With
    ``play`` rollouts have several turns.
    """
    engine = GroupEngine()
    sampler = model_sampler(
        engine,
        model,
        generation_config=generation,
        read=completion_reader(preparer.processor.tokenizer),
        end_ids=end_ids_of(generation),
        several_turns=play is not None,
    )
    to_verify = [verify_model]

    def before(prompts: Sequence[PreparedPrompt]) -> None:
        engine.forget()
        if to_verify[0]:
            verify_first_use(
                model,
                list(prompts),
                preparer,
                open_for_sampling=lambda: nullcontext(model),
                at_prefill=partial(setattr, engine, "at_prefill"),
            )
            to_verify[0] = False

    return Sampling(sampler=sampler, before=before, play=play)


def sampled_groups(
    sampling: Sampling,
    preparer: PromptPreparer,
    *,
    table: Table,
    num_generations: int,
    batch_size: int,
    bad_rows: BadRows | None = None,
) -> Iterator[list[RolloutGroup]]:
    """Yield the groups of one batch of prompts after another, in the order of the table; keys are rows of the table.

    Rows that turn out to be unusable are left out where ``bad_rows`` allows it; none takes their place.

    Raises:
        DataError: a row cannot be used and may not be left out.
    """
    for start in range(0, len(table), batch_size):
        rows = range(start, min(start + batch_size, len(table)))
        for row in range(rows.stop, min(rows.stop + batch_size, len(table))):
            preparer.prefetch(table.example(row))
        prompts: dict[int, PreparedPrompt] = {}
        for row in rows:
            try:
                example, play = table.example(row), sampling.play
                prompts[row] = preparer(example if play is None else play.dressed(example, key=row, is_text=False))
            except DataError as error:
                if bad_rows is None:
                    raise
                bad_rows.refuse(row, error)
        if prompts:
            sampling.before(list(prompts.values()))
            yield rollout(sampling.sampler, prompts, num_generations=num_generations, play=sampling.play)
