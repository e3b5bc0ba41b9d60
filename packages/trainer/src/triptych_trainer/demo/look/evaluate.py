"""Held-out accuracy and calls of a model on the boxes: rollouts of several turns, as in training."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from triptych_data import Example, ImageLoader

from triptych_trainer.demo.evaluate import Evaluation, evaluating, evaluation_sampler, mean_by_kind
from triptych_trainer.demo.look.rewards import answered
from triptych_trainer.demo.look.task import CALLING_TURNS, COMPLETION_TOKENS
from triptych_trainer.grpo.step import rollout
from triptych_trainer.grpo.trl.conversations import player as play_of
from triptych_trainer.models.families import family_of
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.rewards import accuracy_reward, completion_text
from triptych_trainer.rollouts.rollout import Rollout
from triptych_trainer.trajectories.environments import Environments
from triptych_trainer.trajectories.limits import Limits
from triptych_trainer.trajectories.play import Play

__all__ = ["demo_player", "evaluate", "measure", "roll_out"]


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
    with evaluating(model, seed=seed):
        rollouts = roll_out(model, processor=processor, examples=examples, environment=environment, sampled=sampled)
    return measure(examples, rollouts)


def roll_out(
    model: Any, *, processor: Any, examples: Sequence[Example], environment: Callable[[], Any], sampled: bool
) -> list[Rollout]:
    """Return one rollout per example, played as one batch."""
    sampler = evaluation_sampler(model, processor=processor, sampled=sampled, max_new_tokens=COMPLETION_TOKENS)
    with demo_player(model, processor=processor, examples=examples, environment=environment) as play:
        prompts = {
            row: play.preparer(play.dressed(example, key=row, is_text=False)) for row, example in enumerate(examples)
        }
        groups = rollout(sampler, prompts, num_generations=1, play=play)
    return [group.rollouts[0] for group in groups]


def measure(examples: Sequence[Example], rollouts: Sequence[Rollout]) -> Evaluation:
    """Score rollouts with the rewards `accuracy` and `answered`, and count their calls."""
    completions = [list(one.messages) for one in rollouts]
    answers = [str(example.answer) for example in examples]
    right = accuracy_reward(mode="exact")(completions, answer=answers)
    in_format = answered(completions, answers)
    kinds = [str(example.extras["kind"]) for example in examples]
    return Evaluation(
        accuracy=sum(right) / len(examples),
        format=sum(in_format) / len(examples),
        accuracy_by_kind=mean_by_kind(kinds, right),
        num_samples=len(examples),
        completions=tuple(completion_text(messages) for messages in completions),
        calls_by_kind=mean_by_kind(kinds, [one.num_calls for one in rollouts]),
    )


@contextmanager
def demo_player(
    model: Any, *, processor: Any, examples: Sequence[Example], environment: Callable[[], Any]
) -> Iterator[Play]:
    """Open the trainer's own play of the examples, while their pictures can be loaded."""
    with ImageLoader(threads=1) as loader:
        yield play_of(
            model,
            preparer=PromptPreparer(processor, loader=loader, family=family_of(model), keep=len(examples)),
            end_ids=[processor.tokenizer.eos_token_id],
            tools=(),
            environments=Environments(environment),
            row_of=lambda key, _: dict(examples[key].extras),
            limits=Limits(completion_tokens=COMPLETION_TOKENS, calling_turns=CALLING_TURNS),
            say=print,
        )
