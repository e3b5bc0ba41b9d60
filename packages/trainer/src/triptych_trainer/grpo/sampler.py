"""Completions from the trainer's own model: each prompt is prefilled once for all of its completions."""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from transformers import GenerationConfig

from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.grpo.groups import group_batch
from triptych_trainer.grpo.step import OpenModel
from triptych_trainer.prompts.prepare import PreparedPrompt
from triptych_trainer.rollouts.rollout import RolloutGroup
from triptych_trainer.rollouts.sampled import Sampled, Sampler

__all__ = ["end_ids_of", "model_sampler", "one_message"]


def model_sampler(
    engine: GroupEngine,
    model: torch.nn.Module | OpenModel,
    *,
    generation_config: GenerationConfig,
    read: Callable[[PreparedPrompt, Sequence[int]], Sequence[Mapping[str, Any]]],
    end_ids: Collection[int],
    policy_version: int = 0,
    several_turns: bool = False,
) -> Sampler:
    """A sampler over a model, or over what opens it for generation.

    With ``several_turns`` keys and values of rollouts are kept until the sampler is told to let them go.
    """
    open_model = partial(nullcontext, model) if isinstance(model, torch.nn.Module) else model

    def sample(groups: Sequence[RolloutGroup], sizes: Sequence[int]) -> list[list[Sampled]]:
        engine.turns.begin()
        with torch.no_grad(), open_model() as opened:
            completions = engine.generate(
                opened,
                group_batch(groups),
                keys=[group.key for group in groups],
                group_sizes=sizes,
                generation_config=generation_config,
                keep_turns=several_turns,
            )
        return [[Sampled(ids=ids) for ids in group] for group in completions]

    def go_on(groups: Sequence[RolloutGroup], max_tokens: int) -> list[Sampled]:
        config = copy.deepcopy(generation_config)
        config.max_new_tokens = max_tokens
        with torch.no_grad(), open_model() as opened:
            completions = engine.generate(
                opened,
                group_batch(groups),
                keys=[group.key for group in groups],
                group_sizes=[1] * len(groups),
                generation_config=config,
                keep_turns=several_turns,
            )
        return [Sampled(ids=ids) for (ids,) in completions]

    return Sampler(
        sample=sample,
        read=read,
        end_ids=frozenset(end_ids),
        policy_version=policy_version,
        go_on=go_on,
        let_go=engine.turns.begin,
    )


def one_message(tokenizer: Any) -> Callable[[PreparedPrompt, Sequence[int]], tuple[Mapping[str, Any], ...]]:
    """Read a completion as one message of the assistant, without special tokens."""

    def read(prompt: PreparedPrompt, ids: Sequence[int]) -> tuple[Mapping[str, Any], ...]:
        return ({"role": "assistant", "content": tokenizer.decode(list(ids), skip_special_tokens=True)},)

    return read


def end_ids_of(config: GenerationConfig) -> frozenset[int]:
    """The tokens that end a completion, and the one that pads it."""
    ends = config.eos_token_id
    found = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    return frozenset([*found, *([] if config.pad_token_id is None else [config.pad_token_id])])
