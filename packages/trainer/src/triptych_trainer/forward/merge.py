"""From spans to a merge plan: which row of the token embeddings takes which feature row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from triptych_kernels import MergePlan

from triptych_trainer.forward.batch import BatchError, GroupBatch


def build_plan(
    batch: GroupBatch,
    *,
    shape: tuple[int, int],
    placements: Sequence[tuple[int, int, int]],
    counts: Sequence[int],
    device: torch.device,
) -> MergePlan:
    """Plan the merge of `counts` feature rows per image into token embeddings of `shape` `[B, T]`.

    `placements` holds `(prompt, row, offset)`: prompt's first token stands at `[row, offset]`. Rows that repeat a
    prompt share its feature rows. Raises `BatchError` when an image's rows and a span's placeholders differ in number.
    """
    check_counts(batch, counts)
    first_rows = [0]
    for count in counts:
        first_rows.append(first_rows[-1] + count)
    runs: list[tuple[int, int, int, int, str]] = []
    for prompt, row, offset in placements:
        for k, span in enumerate(batch.spans[prompt]):
            image = batch.image_indices[prompt][span.image]
            feature = first_rows[image]
            for start, length in span.runs:
                runs.append((row, offset + start, length, feature, f"prompt {prompt}, image marker {k + 1}"))
                feature += length
    return MergePlan.from_spans(shape, runs, num_features=first_rows[-1]).to(device)


def check_counts(batch: GroupBatch, counts: Sequence[int | None]) -> None:
    """Compare every span's placeholders with the feature rows of its image (None: not known yet).

    Raises:
        BatchError: names prompt, marker, image and both numbers.
    """
    for prompt, spans in enumerate(batch.spans):
        for k, span in enumerate(spans):
            image = batch.image_indices[prompt][span.image]
            expected, got = sum(length for _, length in span.runs), counts[image]
            if got is not None and got != expected:
                raise BatchError(
                    f"prompt {prompt}, image marker {k + 1}: {expected} placeholder tokens but image {image} of the "
                    f"batch has {got} feature rows; tokenize the prompt with the size the image was preprocessed to"
                )


def image_sources(
    batch: GroupBatch,
    *,
    shape: tuple[int, int],
    placements: Sequence[tuple[int, int, int]],
    counts: Sequence[int] | None = None,
) -> torch.Tensor:
    """Feature row of each position `[B, T]` (CPU), -1 for text; without `counts` every image position is 0."""
    source_BT = torch.full(shape, -1, dtype=torch.long)
    first_rows = torch.tensor([0, *(counts or ())]).cumsum(0).tolist()
    for prompt, row, offset in placements:
        for span in batch.spans[prompt]:
            feature = first_rows[batch.image_indices[prompt][span.image]] if counts else 0
            for start, length in span.runs:
                first = offset + start
                rows = torch.arange(feature, feature + length) if counts else 0
                source_BT[row, first : first + length] = rows
                feature += length
    return source_BT
