"""One micro-batch of prompt groups, before any layout is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from triptych_parser import Refusal

from triptych_trainer.forward.scoring import part_of
from triptych_trainer.models.families import ImageInputs

if TYPE_CHECKING:
    import torch
    from triptych_parser import ImageSpan


class BatchError(Refusal, ValueError):
    """Says that the parts of a group batch do not fit together; the message names prompt, image, expected and got."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionImage:
    """Contains an image that arrived in the middle of a completion: a tool or an environment returned it."""

    image: int
    """Its position in the batch's `images`."""
    span: ImageSpan
    """Its placeholders, counted from the completion's first token."""
    name: str = "an image"
    """What errors call it: the rollout, the turn, its number and the tool that returned it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupBatch:
    """Contains P unique prompts, the completions of each, and the unique images they look at.

    Everything is ragged and unpadded. `len(completions[p])` is the group size of prompt `p` and may differ between
    prompts; the rows of every result are prompt-major (all completions of prompt 0, then of prompt 1, ...).
    """

    prompts: tuple[tuple[int, ...], ...]
    """Token ids of each prompt, placeholders expanded."""
    spans: tuple[tuple[ImageSpan, ...], ...]
    """Per prompt, the image spans in marker order (`triptych_parser.ImageSpan`)."""
    image_indices: tuple[tuple[int, ...], ...]
    """Per prompt: `image_indices[p][span.image]` is the position of that image in `images`."""
    completions: tuple[tuple[tuple[int, ...], ...], ...]
    """Per prompt, the token ids of each completion, without padding."""
    images: tuple[ImageInputs, ...]
    """One mapping per unique image of the batch (see `ImageInputs`)."""
    trained: tuple[tuple[tuple[bool, ...], ...], ...]
    """Per prompt and completion, which tokens are scored: sampled ones; those of tools and environments are not."""
    completion_images: tuple[tuple[tuple[CompletionImage, ...], ...], ...]
    """Per prompt and completion, the images that arrived in it, in order."""
    kept: tuple[tuple[torch.Tensor | None, ...], ...] = ()
    """Per prompt and completion, the table of the tokens that its tokens were drawn from (see `kept`); None: all."""
    image_keys: tuple[str, ...] = ()
    """What distinguishes each of `images` from every other image of the step; empty where nothing is kept of them."""
    span_names: tuple[tuple[str, ...], ...] = ()
    """Per prompt, what errors call the image of each span; empty: by the number of its marker."""

    def __post_init__(self) -> None:
        num_prompts = len(self.prompts)
        for name in ("spans", "image_indices", "completions", "trained", "completion_images"):
            if len(getattr(self, name)) != num_prompts:
                raise BatchError(
                    f"{name}: expected one entry per prompt ({num_prompts}), got {len(getattr(self, name))}"
                )
        if len(self.image_keys) not in (0, len(self.images)):
            raise BatchError(f"image_keys: expected one per image ({len(self.images)}), got {len(self.image_keys)}")
        for p, (ids, spans) in enumerate(zip(self.prompts, self.spans, strict=True)):
            if not ids:
                raise BatchError(f"prompt {p} is empty: a prompt needs at least one token")
            _check_spans(
                p, num_tokens=len(ids), spans=spans, indices=self.image_indices[p], num_images=len(self.images)
            )
            _check_completions(
                p, self.completions[p], self.trained[p], self.completion_images[p], num_images=len(self.images)
            )

    @classmethod
    def build(
        cls,
        prompts: Sequence[Sequence[int]],
        *,
        completions: Sequence[Sequence[Sequence[int]]] | None = None,
        spans: Sequence[Sequence[ImageSpan]] | None = None,
        image_indices: Sequence[Sequence[int]] | None = None,
        images: Sequence[ImageInputs] = (),
        trained: Sequence[Sequence[Sequence[bool]]] | None = None,
        completion_images: Sequence[Sequence[Sequence[CompletionImage]]] | None = None,
        kept: Sequence[Sequence[torch.Tensor | None]] = (),
        image_keys: Sequence[str] = (),
        span_names: Sequence[Sequence[str]] = (),
    ) -> GroupBatch:
        """Build a batch from lists; missing `spans` means text only, missing `completions` a batch to generate for.

        Without `image_indices` the images are taken in order: those of prompt 0 first, then those of prompt 1, ...
        Without `trained` every token of a completion is scored; without `completion_images` no completion has images.
        """
        span_rows = tuple(tuple(row) for row in spans) if spans is not None else ((),) * len(prompts)
        if image_indices is None:
            image_indices = _indices_in_order(span_rows)
        groups = tuple(tuple(tuple(ids) for ids in group) for group in completions or [()] * len(prompts))
        if trained is None:
            trained = [[[True] * len(ids) for ids in group] for group in groups]
        if completion_images is None:
            completion_images = [[()] * len(group) for group in groups]
        return cls(
            prompts=tuple(tuple(ids) for ids in prompts),
            spans=span_rows,
            image_indices=tuple(tuple(row) for row in image_indices),
            completions=groups,
            images=tuple(images),
            trained=tuple(tuple(tuple(row) for row in group) for group in trained),
            completion_images=tuple(tuple(tuple(row) for row in group) for group in completion_images),
            kept=tuple(tuple(group) for group in kept),
            image_keys=tuple(image_keys),
            span_names=tuple(tuple(row) for row in span_names),
        )

    def span_name(self, prompt: int, span: int) -> str:
        """Return what errors call the image of a prompt's span."""
        named = self.span_names[prompt] if self.span_names else ()
        return named[span] if named else f"prompt {prompt}, image marker {span + 1}"

    @property
    def num_completions(self) -> int:
        """Rows of every result."""
        return sum(len(group) for group in self.completions)

    @property
    def group_sizes(self) -> tuple[int, ...]:
        """Completions per prompt."""
        return tuple(len(group) for group in self.completions)

    @property
    def max_completion_tokens(self) -> int:
        """Length of the longest completion, 0 when there is none."""
        return max((len(ids) for group in self.completions for ids in group), default=0)

    def images_of(self, prompt: int) -> list[ImageInputs]:
        """Return the image inputs of each of a prompt's spans, in marker order."""
        return [self.images[self.image_indices[prompt][span.image]] for span in self.spans[prompt]]

    def images_in(self, prompt: int, completion: int) -> list[ImageInputs]:
        """Return the image inputs of each image of a completion, in order."""
        return [self.images[found.image] for found in self.completion_images[prompt][completion]]

    @property
    def has_completion_images(self) -> bool:
        """Whether an image arrived in any completion."""
        return any(row for group in self.completion_images for row in group)

    @property
    def has_unsampled_tokens(self) -> bool:
        """Whether some token of a completion was not sampled: a tool or an environment answered in it."""
        return any(not all(marks) for group in self.trained for marks in group)

    def with_completions(self, completions: Sequence[Sequence[Sequence[int]]]) -> GroupBatch:
        """Return the same prompts and images with other completions, whose tokens are all scored and show no image."""
        return GroupBatch.build(
            self.prompts,
            spans=self.spans,
            image_indices=self.image_indices,
            completions=completions,
            images=self.images,
            image_keys=self.image_keys,
            span_names=self.span_names,
        )

    def select(self, prompts: Sequence[int]) -> tuple[GroupBatch, tuple[int, ...]]:
        """Return the sub-batch of some prompts, and which images it keeps (for `ImageFeatures.select`)."""
        return self.pick([(p, range(len(self.completions[p]))) for p in prompts])

    def pick(
        self, chosen: Sequence[tuple[int, Sequence[int]]], *, ends: Sequence[Sequence[int]] | None = None
    ) -> tuple[GroupBatch, tuple[int, ...]]:
        """Return some prompts, each with some of its completions, and which images are kept.

        With `ends` a completion keeps so many of its tokens, and the images that are whole in them.
        """
        if ends is None:
            ends = [[len(self.completions[p][g]) for g in group] for p, group in chosen]
        cut = [list(zip(group, stops, strict=True)) for (_, group), stops in zip(chosen, ends, strict=True)]
        arrived = [
            [
                [found for found in self.completion_images[p][g] if found.span.start + found.span.length <= stop]
                for g, stop in group
            ]
            for (p, _), group in zip(chosen, cut, strict=True)
        ]
        kept = sorted(
            {index for p, _ in chosen for index in self.image_indices[p]}
            | {found.image for group in arrived for row in group for found in row}
        )
        position = {old: new for new, old in enumerate(kept)}
        batch = GroupBatch.build(
            [self.prompts[p] for p, _ in chosen],
            spans=[self.spans[p] for p, _ in chosen],
            image_indices=[[position[index] for index in self.image_indices[p]] for p, _ in chosen],
            completions=[
                [self.completions[p][g][:stop] for g, stop in group] for (p, _), group in zip(chosen, cut, strict=True)
            ],
            images=[self.images[index] for index in kept],
            trained=[
                [self.trained[p][g][:stop] for g, stop in group] for (p, _), group in zip(chosen, cut, strict=True)
            ],
            completion_images=[
                [[replace(found, image=position[found.image]) for found in row] for row in group] for group in arrived
            ],
            kept=[
                [part_of(self.kept[p][g], slice(stop)) for g, stop in group]
                for (p, _), group in zip(chosen, cut, strict=True)
                if self.kept
            ],
            image_keys=[self.image_keys[index] for index in kept] if self.image_keys else (),
            span_names=[self.span_names[p] for p, _ in chosen] if self.span_names else (),
        )
        return batch, tuple(kept)


def _indices_in_order(spans: Sequence[Sequence[ImageSpan]]) -> list[list[int]]:
    rows: list[list[int]] = []
    first = 0
    for row in spans:
        count = 1 + max((span.image for span in row), default=-1)
        rows.append(list(range(first, first + count)))
        first += count
    return rows


def _check_spans(
    prompt: int, *, num_tokens: int, spans: Sequence[ImageSpan], indices: Sequence[int], num_images: int
) -> None:
    end = 0
    for k, span in enumerate(spans):
        where = f"prompt {prompt}, image marker {k + 1}"
        if not 0 <= span.image < len(indices):
            raise BatchError(f"{where}: refers to image {span.image} of {len(indices)}; check image_indices[{prompt}]")
        if not 0 <= indices[span.image] < num_images:
            raise BatchError(
                f"{where}: image_indices points at {indices[span.image]}, but the batch has {num_images} images"
            )
        for start, length in span.runs:
            if start < end or length < 0 or start + length > num_tokens:
                raise BatchError(
                    f"{where}: placeholder run {start}..{start + length} does not fit "
                    f"after token {end} of a prompt of {num_tokens} tokens"
                )
            end = start + length
    if end == num_tokens and spans:
        raise BatchError(
            f"prompt {prompt}: its last token ({num_tokens - 1}) is an image placeholder; "
            "a prompt must end in text (add the chat template's generation prompt)"
        )


def _check_completions(
    prompt: int,
    completions: Sequence[Sequence[int]],
    trained: Sequence[Sequence[bool]],
    images: Sequence[Sequence[CompletionImage]],
    *,
    num_images: int,
) -> None:
    if not len(completions) == len(trained) == len(images):
        raise BatchError(
            f"prompt {prompt}: expected a list of scored tokens and a list of images for each of its "
            f"{len(completions)} completions, got {len(trained)} and {len(images)}"
        )
    for g, (ids, counted, row) in enumerate(zip(completions, trained, images, strict=True)):
        where = f"prompt {prompt}"
        if len(ids) != len(counted):
            raise BatchError(
                f"{where}, completion {g + 1}: expected one mark per token ({len(ids)}), got {len(counted)}"
            )
        end = 0
        for found in row:
            if not 0 <= found.image < num_images:
                raise BatchError(
                    f"{where}, {found.name}: refers to image {found.image}, but the batch has {num_images} images"
                )
            for start, length in found.span.runs:
                if start < end or length < 0 or start + length > len(ids):
                    raise BatchError(
                        f"{where}, {found.name}: placeholder run {start}..{start + length} does not fit after token "
                        f"{end} of a completion of {len(ids)} tokens"
                    )
                end = start + length
            if any(any(counted[start : start + length]) for start, length in found.span.runs):
                raise BatchError(f"{where}, {found.name}: its placeholders were not sampled, and cannot be scored")
        if row and end == len(ids):
            raise BatchError(
                f"{where}, completion {g + 1}: its last token ({len(ids) - 1}) is an image placeholder; "
                "leave out what follows the last sampled token"
            )
