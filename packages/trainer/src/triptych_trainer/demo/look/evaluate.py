"""Held-out accuracy and calls of a model on the boxes: rollouts of several turns, as in training."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig
from triptych_data import Example, ImageLoader

from triptych_trainer.demo.evaluate import Evaluation
from triptych_trainer.demo.look.rewards import answered
from triptych_trainer.demo.look.task import CALLING_TURNS, COMPLETION_TOKENS, FAMILIES
from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.grpo.sampler import end_ids_of, model_sampler, one_message
from triptych_trainer.grpo.step import rollout
from triptych_trainer.grpo.trl.conversations import player as play_of
from triptych_trainer.models.families import family_of
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.rewards import accuracy_reward, completion_text
from triptych_trainer.rollouts.rollout import Rollout
from triptych_trainer.trajectories.environments import Environments
from triptych_trainer.trajectories.limits import Limits
from triptych_trainer.trajectories.play import Play

__all__ = ["evaluate", "measure", "player", "roll_out"]


def evaluate(
    model: Any,
    *,
    processor: Any,
    examples: Sequence[Example],
    environment: Callable[[], Any],
    sampled: bool = False,
    seed: int = 0,
) -> Evaluation:
    """Play one rollout per example, greedily or sampled at temperature 1, and measure it.

    Sampling follows `seed` and leaves the global random state as it was.
    """
    was_training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rollouts = roll_out(model, processor=processor, examples=examples, environment=environment, sampled=sampled)
    model.train(was_training)
    return measure(examples, rollouts)


def roll_out(
    model: Any, *, processor: Any, examples: Sequence[Example], environment: Callable[[], Any], sampled: bool
) -> list[Rollout]:
    """Return one rollout per example, played as one batch."""
    choice = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sampled else {"do_sample": False}
    config = GenerationConfig(
        max_new_tokens=COMPLETION_TOKENS,
        eos_token_id=model.generation_config.eos_token_id,
        pad_token_id=model.generation_config.pad_token_id,
        **choice,
    )
    with player(model, processor=processor, examples=examples, environment=environment) as play:
        prompts = {
            row: play.preparer(play.dressed(example, key=row, is_text=False)) for row, example in enumerate(examples)
        }
        sampler = model_sampler(
            GroupEngine(),
            model,
            generation_config=config,
            read=one_message(processor.tokenizer),
            end_ids=end_ids_of(config),
        )
        groups = rollout(sampler, prompts, num_generations=1, play=play)
    return [group.rollouts[0] for group in groups]


def measure(examples: Sequence[Example], rollouts: Sequence[Rollout]) -> Evaluation:
    """Score rollouts with the rewards `accuracy` and `answered`, and count their calls."""
    completions = [list(one.messages) for one in rollouts]
    answers = [str(example.answer) for example in examples]
    right = accuracy_reward(mode="exact")(completions, answer=answers)
    in_format = answered(completions, answers)
    kinds = [example.extras["kind"] for example in examples]

    def by_kind(scores: Sequence[float]) -> dict[Any, float]:
        found = {kind: [score for own, score in zip(kinds, scores, strict=True) if own == kind] for kind in FAMILIES}
        return {kind: sum(values) / len(values) for kind, values in found.items() if values}

    return Evaluation(
        accuracy=sum(right) / len(examples),
        format=sum(in_format) / len(examples),
        accuracy_by_kind=by_kind(right),
        num_samples=len(examples),
        completions=tuple(completion_text(messages) for messages in completions),
        calls_by_kind=by_kind([one.num_calls for one in rollouts]),
    )


@contextmanager
def player(
    model: Any, *, processor: Any, examples: Sequence[Example], environment: Callable[[], Any]
) -> Iterator[Play]:
    """The trainer's own play of the examples, while their pictures can be loaded."""
    with ImageLoader(threads=1) as loader:
        yield play_of(
            model,
            preparer=PromptPreparer(processor, loader=loader, family=family_of(model), keep=len(examples)),
            end_ids=[processor.tokenizer.eos_token_id],
            tools=(),
            environments=Environments(environment),
            row_of=lambda key: dict(examples[key].extras),
            limits=Limits(completion_tokens=COMPLETION_TOKENS, calling_turns=CALLING_TURNS),
            say=print,
        )
