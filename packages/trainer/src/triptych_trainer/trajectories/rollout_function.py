"""Rollouts of a ``rollout_func``, the loop of a user's own that TRL's trainer takes; images may arrive in them.

The function returns tokens. Which of them are placeholders of which image is found here, and everything is checked that
is checked of the images of tools.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from triptych_parser import tokenize

from triptych_trainer.errors import UsageError
from triptych_trainer.models.families import ImageInputs
from triptych_trainer.prompts.prepare import ENDING_TOKENS, PreparedPicture, PromptPreparer
from triptych_trainer.rollouts.rollout import ArrivedImage, ForRewards, Rollout, RolloutGroup, image_name
from triptych_trainer.rollouts.sampled import Sampler
from triptych_trainer.trajectories.features import check_features
from triptych_trainer.trajectories.function_output import Returned, read_output
from triptych_trainer.trajectories.history import moved
from triptych_trainer.trajectories.locate import Written, count_slots, locate, locate_in_turns, runs_of, written_images
from triptych_trainer.trajectories.messages import bound, turn_of
from triptych_trainer.trajectories.results import as_content

__all__ = ["RolloutFunction"]

OWNER = "rollout_func"


@dataclass(kw_only=True, slots=True)
class RolloutFunction:
    """Makes the rollouts of a batch of groups by one call of the function; a `Player`."""

    call: Callable[[list[Any]], Any]
    """From the prompts of a batch, each once for each of its completions, to what the function returned."""
    prompt_of: Callable[[RolloutGroup], Any]
    """The prompt of a group as the function gets it: messages with PIL images in them, or a plain text."""
    preparer: PromptPreparer
    num_rows: Callable[[ImageInputs], int | None]
    num_tokens: int
    """Size of the vocabulary."""
    slot_ids: frozenset[int]
    """The tokens that are placeholders of images."""
    no_later_images: str | None = None
    """Why the model takes no images after its prompt, if it does not."""
    taken: Collection[str] = ()
    """Names under which reward functions get something that the function cannot return."""

    def __call__(self, sampler: Sampler, groups: Sequence[RolloutGroup], sizes: Sequence[int]) -> list[RolloutGroup]:
        """Ask the function for ``sizes[p]`` completions of each group; completions with another prompt are a group.

        Raises:
            UsageError: what the function returned does not fit together; names the row, the rollout and the turn.
        """
        prompts = [self.prompt_of(group) for group, size in zip(groups, sizes, strict=True) for _ in range(size)]
        names = [
            f"{group.prompt.example.source}: rollout {k + 1}"
            for group, size in zip(groups, sizes, strict=True)
            for k in range(size)
        ]
        output = self.call(prompts)
        found = iter(read_output(output, names=names, num_tokens=self.num_tokens, taken=self.taken))
        played = []
        for group, size in zip(groups, sizes, strict=True):
            own = [(k, next(found)) for k in range(size)]
            for ids, members in groupby(own, key=lambda one: one[1].prompt_ids):
                begun = self._with_prompt(group, ids)
                played.append(begun.with_rollouts([self._rollout(sampler, begun, one, number=k) for k, one in members]))
        return played

    def _with_prompt(self, group: RolloutGroup, ids: tuple[int, ...]) -> RolloutGroup:
        """The group with the prompt that the function sampled from, which may be another text with the same images."""
        prompt = group.prompt
        if list(ids) == list(prompt.ids):
            return group
        images = written_images(prompt.ids, prompt.spans)
        spans = locate(ids, images, slot_ids=self.slot_ids)
        if spans is None:
            raise UsageError(
                f"{prompt.example.source}: {OWNER}: prompt_ids: {count_slots(ids, self.slot_ids)} placeholders do not "
                f"fit the row's {len(images)} images, which take {sum(one.num_features for one in images)}; tokenize "
                "the prompt with the trainer's own processing_class, and with all of its images"
            )
        own = tuple(replace(span, image=known.image) for span, known in zip(spans, prompt.spans, strict=True))
        ending = self._tokenizer.decode(list(ids[-ENDING_TOKENS:]), skip_special_tokens=False)
        return replace(group, prompt=replace(prompt, ids=list(ids), spans=own, ending=ending), has_own_ids=True)

    def _rollout(self, sampler: Sampler, group: RolloutGroup, one: Returned, *, number: int) -> Rollout:
        source = group.prompt.example.source
        self._check_sampled(one, where=f"{source}: rollout {number + 1}")
        arrived = self._arrived(one, where=source, number=number)
        check_features(arrived, num_rows=self.num_rows, source=source)
        whole = tuple(sampler.read(group.prompt, one.ids))
        is_text = group.prompt.text is not None
        as_one = "".join(said["content"] for said in whole) if is_text else [dict(message) for message in whole]
        several = not is_text and not all(one.sampled)
        return Rollout(
            ids=one.ids,
            trained=one.sampled,
            messages=self._messages(sampler, group, one, arrived) if several else whole,
            finish="stop" if one.ids and one.ids[-1] in sampler.end_ids else "length",
            sampling_logps=one.logps,
            images=tuple(arrived),
            policy_version=sampler.policy_version,
            for_rewards=ForRewards(completion=as_one, columns=one.fields),
        )

    def _check_sampled(self, one: Returned, *, where: str) -> None:
        for k, (token, sampled) in enumerate(zip(one.ids, one.sampled, strict=True)):
            if sampled and token in self.slot_ids:
                raise UsageError(
                    f"{where}: {OWNER}: token {k + 1} of the completion is a placeholder of an image, and env_mask "
                    "says that the model sampled it; give 0 to the tokens of images, and suppress this token when "
                    "you sample"
                )

    def _arrived(self, one: Returned, *, where: str, number: int) -> list[ArrivedImage]:
        """The images of a completion at their places."""
        if one.images and self.no_later_images is not None:
            raise UsageError(f"{where}: {OWNER}: images: the model takes none after its prompt: {self.no_later_images}")
        shown: list[PreparedPicture] = []
        for k, picture in enumerate(one.images):
            name = f"{where}: rollout {number + 1}, image {k + 1} of `{OWNER}`"
            shown.append(self.preparer.picture(picture, where=name))
        spans, wrong = locate_in_turns(
            one.ids,
            one.sampled,
            count=len(shown),
            written_as=lambda first, stop: self._written(shown[first:stop]),
            slot_ids=self.slot_ids,
        )
        turns = _turns(one.sampled)
        placed = sum(map(len, spans))
        if wrong is not None or placed < len(shown):
            turn = turns[-1] if wrong is None else turns[wrong]
            raise self._misfit(one, shown, placed, wrong=wrong, turn=turn, where=where, number=number)
        arrived: list[ArrivedImage] = []
        for turn, own in zip(turns, spans, strict=False):
            for span in own:
                k = len(arrived)
                picture = one.images[k]
                prepared = self.preparer.picture(picture, where=where, alone=len(own) == 1)
                arrived.append(
                    ArrivedImage(
                        digest=prepared.digest,
                        span=moved(span, by=0, image=k),
                        inputs=prepared.inputs,
                        turn=turn,
                        owner=OWNER,
                        rollout=number,
                        model_size=prepared.model_size,
                    )
                )
        return arrived

    def _written(self, shown: Sequence[PreparedPicture]) -> list[Written]:
        """How images that arrive together are written."""
        made = tokenize(
            bound([turn_of("user", [one.picture for one in shown])]),
            self.preparer.processor,
            image_sizes=[(one.picture.height, one.picture.width) for one in shown],
            chat_template_images=self.preparer.settings.chat_template_images,
            chat_template_kwargs=self.preparer.settings.chat_template_kwargs,
        )
        return written_images(made.ids, made.spans)

    def _misfit(
        self,
        one: Returned,
        shown: Sequence[PreparedPicture],
        placed: int,
        *,
        wrong: int | None,
        turn: int,
        where: str,
        number: int,
    ) -> UsageError:
        remedy = "tokenize what you append with the trainer's own processing_class, and return every image in `images`"
        rollout = f"{where}: rollout {number + 1}"
        if wrong is None:
            return UsageError(
                f"{rollout}: {OWNER}: images: got {len(shown)} images, but the completion contains the placeholders of "
                f"{placed}; {remedy}"
            )
        first, stop = runs_of(one.sampled, value=False)[wrong]
        slots = count_slots(one.ids[first:stop], self.slot_ids)
        if placed == len(shown):
            return UsageError(
                f"{rollout}, turn {turn + 1}: {OWNER}: {slots} placeholders of images without an image (`images` has "
                f"{len(shown)} for this completion); {remedy}"
            )
        (own,) = self._written(shown[placed : placed + 1])
        name = image_name(rollout=number, turn=turn, owner=OWNER, number=1)
        ends = [self._tokenizer.decode(list(own.ids[part]), skip_special_tokens=False) for part in _around(own)]
        return UsageError(
            f"{where}: {name}: {slots} slots, {own.num_features} features; its tokens are not those of image "
            f"{placed + 1} of `images`, {shown[placed].picture.width} x {shown[placed].picture.height} pixels, which "
            f"the chat template writes as {ends[0]!r}, its placeholders and {ends[1]!r}; {remedy}"
        )

    def _messages(
        self, sampler: Sampler, group: RolloutGroup, one: Returned, arrived: Sequence[ArrivedImage]
    ) -> tuple[Mapping[str, Any], ...]:
        """The turns of a rollout for reports: what the model said, and what came back with its images."""
        found: list[tuple[int, Mapping[str, Any]]] = []
        for start, stop in runs_of(one.sampled, value=True):
            found += [(start, dict(said)) for said in sampler.read(group.prompt, one.ids[start:stop])]
        pictures = iter(one.images)
        for start, stop in runs_of(one.sampled, value=False):
            spans = [image.span for image in arrived if start <= image.span.start < stop]
            pieces: list[Any] = []
            at = start
            for span in spans:
                pieces += [self._text(one.ids[at : span.start]), next(pictures)]
                at = span.start + span.length
            pieces = [piece for piece in (*pieces, self._text(one.ids[at:stop])) if piece != ""]
            found.append((start, {"role": "tool", "name": OWNER, "content": as_content(pieces) if pieces else ""}))
        return tuple(message for _, message in sorted(found, key=lambda one: one[0]))

    def _text(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    @property
    def _tokenizer(self) -> Any:
        return getattr(self.preparer.processor, "tokenizer", self.preparer.processor)


def _around(image: Written) -> tuple[slice, slice]:
    """Where the tokens before the first placeholder of an image are, and those after its last one."""
    start, length = image.runs[-1]
    return slice(0, image.runs[0][0]), slice(start + length, None)


def _turns(sampled: Sequence[bool]) -> list[int]:
    """For each run of tokens of the environment, the number of the turn, from 0, after which it came."""
    said = runs_of(sampled, value=True)
    before = [sum(stop <= start for _, stop in said) for start, _ in runs_of(sampled, value=False)]
    return [max(count - 1, 0) for count in before] or [0]
