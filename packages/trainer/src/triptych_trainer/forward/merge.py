"""From image spans to a merge plan: which position of the token embeddings takes which feature row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from triptych_kernels import MergePlan

from triptych_trainer.forward.batch import BatchError, GroupBatch

ImagePlace = tuple[int, int, list[tuple[int, int]], str]
"""(row, image of the batch, (start, length) of every placeholder run in the row, name for errors)."""


def image_places(
    batch: GroupBatch,
    *,
    starts: Iterable[tuple[int, int, int]],
    completion_starts: Iterable[tuple[int, int, int, int]] = (),
) -> list[ImagePlace]:
    """List where the images of prompts and completions are in one call.

    `starts` contains `(prompt, row, offset)`: the first token of `prompt` is at position `offset` of `row`. A prompt
    that is repeated in several rows has its images in each of them. `completion_starts` contains `(prompt, completion,
    row, offset)` for the first token of a completion.
    """
    in_prompts = [
        (
            row,
            batch.image_indices[prompt][span.image],
            [(offset + start, length) for start, length in span.runs],
            batch.span_name(prompt, k),
        )
        for prompt, row, offset in starts
        for k, span in enumerate(batch.spans[prompt])
    ]
    return in_prompts + [
        (
            row,
            found.image,
            [(offset + start, length) for start, length in found.span.runs],
            found.name,
        )
        for prompt, completion, row, offset in completion_starts
        for found in batch.completion_images[prompt][completion]
    ]


def build_plan(places: Sequence[ImagePlace], *, shape: tuple[int, int], num_images: int) -> MergePlan:
    """Plan the merge of one call's feature rows into token embeddings of `shape` `[B, T]`; the plan is on the host.

    Each image is expected to have as many feature rows as its place has placeholder tokens; `check_counts` compares
    that with what the tower returns.

    Raises:
        BatchError: an image has no place, or two places of different size.
    """
    counts = [0] * num_images
    for _, image, runs, _ in places:
        counts[image] = counts[image] or _num_tokens(runs)
    if 0 in counts:
        raise BatchError(
            f"image {counts.index(0)} of the batch has no placeholder tokens in any prompt; add its span, or leave it "
            f"out of the batch's {num_images} images"
        )
    try:
        return MergePlan.from_images(shape, places, features_per_image=counts)
    except ValueError as error:
        raise BatchError(str(error)) from None


def check_counts(places: Iterable[ImagePlace], counts: Sequence[int | None]) -> None:
    """Compare the placeholder tokens of every place with the feature rows of its image (None: not known yet).

    Raises:
        BatchError: names prompt, marker, image and both numbers.
    """
    for _, image, runs, name in places:
        expected, got = _num_tokens(runs), counts[image]
        if got is not None and got != expected:
            raise BatchError(
                f"{name}: {expected} placeholder tokens but image {image} of the batch has {got} feature rows; "
                "tokenize the prompt with the size the image was preprocessed to"
            )


def _num_tokens(runs: Iterable[tuple[int, int]]) -> int:
    return sum(length for _, length in runs)
