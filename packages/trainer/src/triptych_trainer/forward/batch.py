"""One micro-batch of prompt groups, before any layout is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from triptych_parser import Refusal

from triptych_trainer.models.families import ImageInputs

if TYPE_CHECKING:
    from triptych_parser import ImageSpan


class BatchError(Refusal, ValueError):
    """A group batch whose parts do not fit together; the message names prompt, image, expected and got."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupBatch:
    """P unique prompts, the completions of each, and the unique images they look at.

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

    def __post_init__(self) -> None:
        num_prompts = len(self.prompts)
        for name in ("spans", "image_indices", "completions"):
            if len(getattr(self, name)) != num_prompts:
                raise BatchError(
                    f"{name}: expected one entry per prompt ({num_prompts}), got {len(getattr(self, name))}"
                )
        for p, (ids, spans) in enumerate(zip(self.prompts, self.spans, strict=True)):
            if not ids:
                raise BatchError(f"prompt {p} is empty: a prompt needs at least one token")
            _check_spans(
                p, num_tokens=len(ids), spans=spans, indices=self.image_indices[p], num_images=len(self.images)
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
    ) -> GroupBatch:
        """Build a batch from lists; missing `spans` means text only, missing `completions` a batch to generate for.

        Without `image_indices` the images are taken in order: those of prompt 0 first, then those of prompt 1, ...
        """
        span_rows = tuple(tuple(row) for row in spans) if spans is not None else ((),) * len(prompts)
        if image_indices is None:
            image_indices = _indices_in_order(span_rows)
        return cls(
            prompts=tuple(tuple(ids) for ids in prompts),
            spans=span_rows,
            image_indices=tuple(tuple(row) for row in image_indices),
            completions=tuple(tuple(tuple(ids) for ids in group) for group in completions or [()] * len(prompts)),
            images=tuple(images),
        )

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
        """The image inputs behind each of a prompt's spans, in marker order."""
        return [self.images[self.image_indices[prompt][span.image]] for span in self.spans[prompt]]

    def with_completions(self, completions: Sequence[Sequence[Sequence[int]]]) -> GroupBatch:
        """The same prompts and images with other completions."""
        return GroupBatch(
            prompts=self.prompts,
            spans=self.spans,
            image_indices=self.image_indices,
            completions=tuple(tuple(tuple(ids) for ids in group) for group in completions),
            images=self.images,
        )

    def select(self, prompts: Sequence[int]) -> tuple[GroupBatch, tuple[int, ...]]:
        """The sub-batch of some prompts, and which images it keeps (for `ImageFeatures.select`)."""
        kept = tuple(sorted({index for p in prompts for index in self.image_indices[p]}))
        position = {old: new for new, old in enumerate(kept)}
        batch = GroupBatch(
            prompts=tuple(self.prompts[p] for p in prompts),
            spans=tuple(self.spans[p] for p in prompts),
            image_indices=tuple(tuple(position[index] for index in self.image_indices[p]) for p in prompts),
            completions=tuple(self.completions[p] for p in prompts),
            images=tuple(self.images[index] for index in kept),
        )
        return batch, kept


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
                    f"behind token {end} of a prompt of {num_tokens} tokens"
                )
            end = start + length
    if end == num_tokens and spans:
        raise BatchError(
            f"prompt {prompt}: its last token ({num_tokens - 1}) is an image placeholder; "
            "a prompt must end in text (add the chat template's generation prompt)"
        )
