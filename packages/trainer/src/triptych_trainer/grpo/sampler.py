"""Completions from the trainer's own model: each prompt is prefilled once for all of its completions."""

import copy
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from transformers import GenerationConfig

from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.grpo.groups import group_batch
from triptych_trainer.grpo.step import OpenModel
from triptych_trainer.prompts.prepare import PreparedPrompt
from triptych_trainer.rewards.completion import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from triptych_trainer.rollouts.rollout import RolloutGroup
from triptych_trainer.rollouts.sampled import Sampled, Sampler

__all__ = ["end_ids_of", "model_sampler", "one_message"]

_TAGS = (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)
_IN_BRACKETS = re.compile(r"[<\[{|｜◁].*[>\]}|｜▷]")
"""What special tokens look like, as opposed to ordinary text."""


def model_sampler(
    engine: GroupEngine,
    model: torch.nn.Module | OpenModel,
    *,
    generation_config: GenerationConfig,
    read: Callable[[PreparedPrompt, Sequence[int]], Sequence[Mapping[str, Any]]],
    end_ids: Collection[int],
    policy_version: int = 0,
    several_turns: bool = False,
    anywhere: Callable[[bool], bool] = bool,
) -> Sampler:
    """Return a sampler over a model, or over what opens it for generation.

    With ``several_turns`` keys and values of rollouts are kept until the sampler is told to let them go. Ranks that
    share weights sample in step: ``anywhere`` says whether a rollout of any of them goes on, and a rank without any
    forwards two tokens that nobody reads.
    """
    open_model = partial(nullcontext, model) if isinstance(model, torch.nn.Module) else model

    prompts: list[PreparedPrompt] = []

    def generate(
        groups: Sequence[RolloutGroup], sizes: Sequence[int], config: GenerationConfig
    ) -> list[list[list[int]]]:
        with torch.no_grad(), open_model() as opened:
            return engine.generate(
                opened,
                group_batch(groups),
                keys=[group.key for group in groups],
                group_sizes=sizes,
                generation_config=config,
                keep_turns=several_turns,
            )

    def sample(groups: Sequence[RolloutGroup], sizes: Sequence[int]) -> list[list[Sampled]]:
        engine.turns.begin()
        prompts[:] = [group.prompt for group in groups[:1]]
        return [[Sampled(ids=ids) for ids in group] for group in generate(groups, sizes, generation_config)]

    def go_on(groups: Sequence[RolloutGroup], max_tokens: int) -> list[Sampled]:
        if not groups:
            engine.turns.begin()
            go_on([_idle(prompts[0])], 1)
            return []
        config = copy.deepcopy(generation_config)
        config.max_new_tokens = max_tokens
        return [Sampled(ids=ids) for (ids,) in generate(groups, [1] * len(groups), config)]

    return Sampler(
        sample=sample,
        read=read,
        end_ids=frozenset(end_ids),
        policy_version=policy_version,
        go_on=go_on,
        anywhere=anywhere,
        let_go=engine.turns.begin,
    )


def _idle(prompt: PreparedPrompt) -> RolloutGroup:
    """Two tokens without images: one to prefill, and one to sample after."""
    two = replace(prompt, ids=prompt.ids[-1:] * 2, spans=(), image_inputs=(), image_digests=())
    return RolloutGroup(key=0, prompt=two)


def one_message(tokenizer: Any) -> Callable[[PreparedPrompt, Sequence[int]], tuple[Mapping[str, Any], ...]]:
    """Read a completion as one message of the assistant, without special tokens.

    The tags of the usual layout and tokens that are ordinary text stay in it where a tokenizer calls them special:
    rewards look for the tags, and a text that pads rows (`!`) is also written by the model.
    """
    dropped, keeps_some = _dropped_ids(tokenizer)

    def read(prompt: PreparedPrompt, ids: Sequence[int]) -> tuple[Mapping[str, Any], ...]:
        kept = [token for token in ids if token not in dropped]
        return ({"role": "assistant", "content": tokenizer.decode(kept, skip_special_tokens=not keeps_some)},)

    return read


def end_ids_of(config: GenerationConfig) -> frozenset[int]:
    """Return the tokens that end a completion. The token that pads rows is not among them, because completions contain
    no pads.
    """
    ends = config.eos_token_id
    return frozenset([] if ends is None else [ends] if isinstance(ends, int) else ends)


def _dropped_ids(tokenizer: Any) -> tuple[frozenset[int], bool]:
    """The special tokens that no text of a completion contains, and whether there are others that it does."""
    added = {token for token, what in tokenizer.added_tokens_decoder.items() if what.special}
    special = {token: tokenizer.convert_ids_to_tokens(token) for token in {*added, *tokenizer.all_special_ids}}
    dropped = frozenset(
        token
        for token, text in special.items()
        if token == tokenizer.eos_token_id or (text not in _TAGS and _IN_BRACKETS.search(text))
    )
    return dropped, len(dropped) < len(special)
