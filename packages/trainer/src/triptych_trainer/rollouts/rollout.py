"""Rollouts: what a model, and perhaps an environment, wrote after a prompt. Plain values, passed from hand to hand.

A rollout is a trajectory. One of a single turn contains sampled tokens only. In one of several turns the tokens of the
environment (tool results, further images) are between the sampled ones, in the order in which they came.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from PIL import Image
from triptych_parser import ImageSpan

from triptych_trainer.models.families import ImageInputs
from triptych_trainer.prompts.prepare import PreparedPrompt

__all__ = [
    "ArrivedImage",
    "BoxFrame",
    "Finish",
    "ForRewards",
    "Rollout",
    "RolloutGroup",
    "ScoredGroup",
    "Tail",
    "ToolCall",
    "image_name",
    "image_names",
]

Finish = Literal["stop", "length", "turns", "room", "done"]
"""Why a rollout ended: the model wrote an end token and called nothing (`stop`), it reached the largest number of
tokens (`length`), it called a tool once more than is allowed (`turns`), the results of its calls did not fit and were
left out as a whole (`room`), or its environment said that it is over (`done`)."""
BoxFrame = Literal["thousandths", "pixels"]
"""What the numbers of a call's box or point count: thousandths of the image's sides, or its pixels as the model saw it.
"""


def image_name(*, rollout: int, turn: int, owner: str, number: int) -> str:
    """Return what errors call an image that arrived; rollout and turn count from 0, and its number among its owner's
    images from 1.

    >>> image_name(rollout=2, turn=1, owner="zoom", number=1)
    'rollout 3, turn 2, image 1 of `zoom`'
    """
    return f"rollout {rollout + 1}, turn {turn + 1}, image {number} of `{owner}`"


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrivedImage:
    """Contains an image that arrived during a rollout, with the tool or environment that returned it."""

    digest: str
    """Digest of the prepared pixels: equal images are encoded once."""
    span: ImageSpan
    """Its placeholders, counted from the rollout's first token; ``span.image`` counts the rollout's images from 0."""
    inputs: ImageInputs
    """The image processor's output."""
    turn: int
    """The turn, from 0, after which it arrived."""
    owner: str
    """The tool or environment that returned it."""
    rollout: int = 0
    """The number of the rollout, from 0, among those that were sampled for its prompt."""
    model_size: tuple[int, int] | None = None
    """(height, width) in pixels as the vision tower sees it; None where that is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """Describes one call of a tool in a rollout, as reports read it."""

    turn: int
    """The turn, from 0, whose message asked for it."""
    name: str
    """Empty for a call that could not be read."""
    arguments: Any
    was_done: bool = True
    """False for a call that came after the largest number of turns, or after its environment had ended the rollout."""
    failed: bool = False
    """Whether it ended in an error; the model got the error as text."""
    box_frame: BoxFrame | None = None
    """The unit of its box or its point; None if the tool does not say."""


def image_names(images: Sequence[ArrivedImage]) -> list[str]:
    """Return the names of a rollout's images in error messages, in order."""
    counts: Counter[tuple[int, str]] = Counter()
    names = []
    for image in images:
        counts[image.turn, image.owner] += 1
        number = counts[image.turn, image.owner]
        names.append(image_name(rollout=image.rollout, turn=image.turn, owner=image.owner, number=number))
    return names


@dataclass(frozen=True, kw_only=True, slots=True)
class ForRewards:
    """Contains what reward functions get of a rollout in addition to its messages. Checkpoints do not contain it."""

    environment: Any = None
    """The environment that it was played in."""
    completion: Any = None
    """The completion as they get it; None: the messages, or their text after a plain prompt."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments, which a `rollout_func` returned."""


NOTHING_MORE = ForRewards()


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """Contains one trajectory after a prompt."""

    ids: tuple[int, ...]
    """Sampled tokens and tokens of the environment in the order in which they came; never rendered a second time."""
    trained: tuple[bool, ...]
    """For each token, whether the loss counts it: sampled tokens yes, tokens of the environment no."""
    messages: tuple[Mapping[str, Any], ...]
    """The messages, as rewards and reports read them."""
    finish: Finish
    sampling_logps: tuple[float, ...] | None = None
    """For each token, its log-probability as the engine sampled it: NaN where that is not known, 0 for the environment.

    None where the trainer's own model sampled.
    """
    kept: torch.Tensor | None = field(default=None, compare=False)
    """The table of the tokens that each token was drawn from, where the engine cut off others; None: from all."""
    images: tuple[ArrivedImage, ...] = ()
    policy_version: int = 0
    """The optimizer step whose weights sampled it."""
    calls: tuple[ToolCall, ...] | None = None
    """None where there are no tools to call."""
    unread: Mapping[int, str] = field(default_factory=dict)
    """For each turn, from 0, that begins a call which was not read: the reason."""
    turn_rewards: tuple[float, ...] | None = None
    """The reward of each turn from its environment; None if the environment gives no rewards for turns."""
    steps: tuple["Rollout", ...] = ()
    """Its turns as samples of their own after the same prompt, each after as much of its history as it was sampled
    from; empty where the rollout itself is the sample."""
    trajectory: int | None = None
    """For a sample that is one turn: the number of its rollout, from 0, among those of its prompt."""
    for_rewards: ForRewards = field(default=NOTHING_MORE, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check that every list has one entry per token; raises ValueError."""
        sizes = {"trained": len(self.trained)}
        if self.sampling_logps is not None:
            sizes["sampling_logps"] = len(self.sampling_logps)
        if self.kept is not None:
            sizes["kept"] = len(self.kept)
        wrong = {name: size for name, size in sizes.items() if size != len(self.ids)}
        if wrong:
            raise ValueError(f"a rollout of {len(self.ids)} tokens needs one entry per token in each list, got {wrong}")

    @property
    def sampled_runs(self) -> tuple[tuple[int, int], ...]:
        """(start, stop) of the sampled tokens of each turn, as far as the loss counts them."""
        edges = [k for k, (a, b) in enumerate(pairwise((False, *self.trained, False))) if a != b]
        return tuple(zip(edges[::2], edges[1::2], strict=True))

    @property
    def num_calls(self) -> int:
        """The number of calls of tools that were done."""
        return sum(call.was_done for call in self.calls or ())

    @property
    def num_failed_calls(self) -> int:
        """The number of calls that ended in an error; the model got these errors as text."""
        return sum(call.failed for call in self.calls or ())

    @property
    def num_trained(self) -> int:
        """How many tokens the loss counts."""
        return sum(self.trained)

    @property
    def was_cut(self) -> bool:
        """Whether it ended only because it reached the largest number of tokens."""
        return self.finish in ("length", "room")

    @property
    def scored_images(self) -> tuple[ArrivedImage, ...]:
        """The images before the last token that the loss counts; no pass needs the others."""
        end = len(self.scored_ids)
        return tuple(image for image in self.images if image.span.start < end)

    @property
    def scored_ids(self) -> tuple[int, ...]:
        """The tokens up to the last one that the loss counts; no pass needs the others."""
        last = max((k for k, counts in enumerate(self.trained) if counts), default=-1)
        return self.ids[: last + 1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tail:
    """Contains what comes after a prompt in a rollout that goes on, for an engine that expands images itself."""

    prompt: PreparedPrompt
    """The prompt before it."""
    short_ids: tuple[int, ...]
    """The tokens, with one placeholder per image."""
    pictures: tuple[tuple[Image.Image, tuple[int, int]], ...]
    """Its images in order: as decoded, and the (height, width) in pixels that the vision tower sees."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutGroup:
    """Contains a prompt and the rollouts that share it: normally G completions that are compared with each other."""

    key: int
    """The number of the prompt's row; no other row of the run has the same number."""
    prompt: PreparedPrompt
    rollouts: tuple[Rollout, ...] = ()
    observation: tuple[str | Image.Image, ...] = ()
    """What an environment showed first: texts and images at the end of the prompt that are not in its row."""
    span_names: tuple[str, ...] = ()
    """The name of each span's image in errors, if the prompt is a rollout that goes on; empty: named by its marker."""
    tail: Tail | None = None
    """The last part of a prompt that is a rollout which goes on; None for the prompt of a row."""
    has_own_ids: bool = False
    """Whether the tokens of its prompt are those of a `rollout_func`, and not those of its row."""

    def __len__(self) -> int:
        return len(self.rollouts)

    def with_rollouts(self, rollouts: Sequence[Rollout]) -> "RolloutGroup":
        """Return the same prompt with other rollouts."""
        return replace(self, rollouts=tuple(rollouts))


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredGroup:
    """Contains a group with the rewards and advantages of its rollouts, for reports and evaluations."""

    group: RolloutGroup
    rewards: Mapping[str, tuple[float | None, ...]]
    """For each reward by name, one score per rollout; None if the reward does not apply to it."""
    advantages: tuple[float | None, ...]
    """One advantage for each rollout; None in an evaluation, which does not compare rollouts."""
