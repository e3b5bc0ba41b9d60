"""Plays without a model: rollouts say what the test says."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from triptych_data import ImageLoader, read_examples
from triptych_data.prompt_settings import PromptSettings
from triptych_trainer.grpo.trl.conversations import message_reader
from triptych_trainer.models.load import load_processor
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.rollouts.rollout import RolloutGroup
from triptych_trainer.rollouts.sampled import Sampled, Sampler
from triptych_trainer.trajectories.environments import Environments
from triptych_trainer.trajectories.limits import Limits
from triptych_trainer.trajectories.play import Play
from triptych_trainer.trajectories.shown import tools_by_environment
from triptych_trainer.trajectories.toolbox import toolbox
from triptych_trainer.trajectories.writer import turn_writer


@dataclass(kw_only=True)
class Stage:
    """A play with its groups, and what it said."""

    play: Play
    groups: list[RolloutGroup]
    tokenizer: Any
    said: list[str] = field(default_factory=list)

    def run(self, *scripts: Sequence[str], size: int | None = None) -> list[Any]:
        """Play the first group; `scripts[k]` are the messages of rollout k, turn by turn, each ended."""
        size = len(scripts) if size is None else size
        ends = self.tokenizer.convert_tokens_to_ids("<|im_end|>")
        turns = [0] * size
        waiting: list[int] = []

        def say(k: int) -> Sampled:
            text = scripts[k][turns[k]]
            turns[k] += 1
            ids = self.tokenizer(text.removesuffix("..."))["input_ids"]
            return Sampled(ids=ids if text.endswith("...") else [*ids, ends])

        def sample(groups: Any, sizes: Sequence[int]) -> list[list[Sampled]]:
            waiting[:] = [k for k in range(size) if len(scripts[k]) > 1]
            return [[say(k) for k in range(sizes[0])]]

        def go_on(groups: Sequence[RolloutGroup], room: int) -> list[Sampled]:
            self.asked = list(groups)
            rows = [k for k in range(size) if 0 < turns[k] < len(scripts[k])]
            return [say(k) for k in rows[: len(groups)]]

        sampler = Sampler(sample=sample, read=lambda *_: [], end_ids=frozenset([ends]), go_on=go_on)
        (group,) = self.play(sampler, self.groups[:1], [size])
        self.group = group
        return list(group.rollouts)

    def play_all(self, said: Mapping[tuple[int, int], Sequence[str]], *, sizes: Sequence[int]) -> list[RolloutGroup]:
        """Play all groups; `said[p, k]` are the messages of rollout k of group p, all of them equally many."""
        ends = self.tokenizer.convert_tokens_to_ids("<|im_end|>")
        left = {place: iter(texts) for place, texts in said.items()}

        def say(place: tuple[int, int]) -> Sampled:
            return Sampled(ids=[*self.tokenizer(next(left[place]))["input_ids"], ends])

        sampler = Sampler(
            sample=lambda groups, sizes: [[say((p, k)) for k in range(size)] for p, size in enumerate(sizes)],
            read=lambda *_: [],
            end_ids=frozenset([ends]),
            go_on=lambda groups, room: [say(place) for place in said],
        )
        return list(self.play(sampler, self.groups, sizes))

    def text(self, rollout: Any) -> str:
        """All tokens of a rollout as text."""
        return self.tokenizer.decode(list(rollout.ids), skip_special_tokens=False)


@pytest.fixture
def stage_of(model_dir, write_rows) -> Iterator[Callable[..., Stage]]:
    """Build a play over one prompt with one image of 56 x 56 pixels."""
    with ExitStack() as stack:

        def make(
            *,
            tools: Sequence[Callable[..., Any]] = (),
            environment: Any = None,
            rows: Mapping[int, Mapping[str, Any]] | None = None,
            num_rows: Callable[[Any], int | None] = lambda inputs: int(inputs["image_grid_thw"].prod()) // 4,
            **limits: Any,
        ) -> Stage:
            processor = load_processor(str(model_dir))
            loader = stack.enter_context(ImageLoader(threads=1))
            preparer = PromptPreparer(processor, loader=loader)
            own = toolbox(tools)
            environments = None if environment is None else Environments(environment)
            tokenizer = processor.tokenizer
            end = tokenizer.convert_tokens_to_ids("<|im_end|>")
            writers = {
                name: turn_writer(
                    processor,
                    settings=PromptSettings(),
                    schemas=[tool.schema for tool in every.values()],
                    end_ids=[end],
                    reads_calls=False,
                )
                for name, every in tools_by_environment(tools, environments).items()
            }
            said: list[str] = []
            play = Play(
                writers=writers,
                preparer=preparer,
                read=message_reader(tokenizer),
                tools=own,
                environments=environments,
                row_of=lambda key, _: {"seed": key, **(rows or {}).get(key, {})},
                num_rows=num_rows,
                limits=Limits(**{"completion_tokens": 2000, **limits}),
                say=said.append,
            )
            (example,) = read_examples(write_rows([1]))
            groups = [
                RolloutGroup(key=key, prompt=preparer(play.dressed(example, key=key, is_text=False)))
                for key in (rows or {3: {}})
            ]
            return Stage(play=play, groups=groups, tokenizer=tokenizer, said=said)

        yield make
