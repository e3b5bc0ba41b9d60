"""Rows of conversations as the passes take them: prepared once, then laid out as a prompt and what follows it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from triptych_data import Example
from triptych_data.prompt_settings import PromptSettings
from triptych_parser import ImageSpan

from triptych_trainer.forward import CompletionImage, GroupBatch
from triptych_trainer.models.families import ImageInputs
from triptych_trainer.prompts.prepare import PreparedPrompt, PromptPreparer
from triptych_trainer.sft.conversation import conversation
from triptych_trainer.sft.labels import labelled, whole_settings
from triptych_trainer.sft.tools import Dress

__all__ = ["ConversationPreparer", "LabelledRow", "group_batch", "labels_of"]

IGNORED = -100


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledRow:
    """Contains a conversation as the model gets it."""

    prompt: PreparedPrompt
    """The whole conversation, images included; its ids end where the last turn of the assistant ends or later."""
    trained: tuple[bool, ...]
    """Which of its tokens are trained."""

    @property
    def start(self) -> int:
        """The first trained token."""
        return self.trained.index(True)

    @property
    def stop(self) -> int:
        """The place after the last trained token."""
        return len(self.trained) - self.trained[::-1].index(True)


class ConversationPreparer:
    """Prepares rows for training, by a preparer of prompts whose settings become those of whole conversations."""

    def __init__(
        self,
        prompts: PromptPreparer,
        *,
        end_ids: Collection[int],
        max_tokens: int | None = None,
        dress: Dress | None = None,
    ) -> None:
        """``end_ids`` are the tokens that end a message; a row of more than ``max_tokens`` tokens is refused.

        ``dress`` adds the tools of the run to an example.
        """
        self.prompts = prompts
        self.settings: PromptSettings = prompts.settings
        self.end_ids = frozenset(end_ids)
        self.max_tokens = max_tokens
        self.dress = dress
        prompts.settings = whole_settings(prompts.settings)

    def prefetch(self, example: Example) -> None:
        """Start decoding an example's images on the loader's threads."""
        self.prompts.prefetch(example)

    def __call__(self, example: Example) -> LabelledRow:
        """The prepared row.

        Raises:
            DataError: the row cannot be trained on, or an image cannot be decoded.
        """
        whole = conversation(example if self.dress is None else self.dress(example))
        prepared = self.prompts(whole)
        found = labelled(
            whole,
            ids=prepared.ids,
            spans=prepared.spans,
            sizes=prepared.image_sizes,
            model=self.prompts.model,
            settings=self.settings,
            end_ids=self.end_ids,
            max_tokens=self.max_tokens,
        )
        return LabelledRow(prompt=replace(prepared, ids=list(found.ids)), trained=found.trained)


def group_batch(rows: Sequence[LabelledRow]) -> GroupBatch:
    """Return each row as a prompt, which ends where its first trained token is, and one completion of all that follows.

    Images of equal content are one image of the batch. What follows the last trained token is left out: it changes no
    number that is trained.
    """
    images: dict[str, ImageInputs] = {}
    for row in rows:
        images.update(zip(row.prompt.image_digests, row.prompt.image_inputs, strict=True))
    place = {digest: k for k, digest in enumerate(images)}
    indices = [[place[digest] for digest in row.prompt.image_digests] for row in rows]
    return GroupBatch.build(
        [row.prompt.ids[: row.start] for row in rows],
        completions=[[row.prompt.ids[row.start : row.stop]] for row in rows],
        spans=[[span for span in row.prompt.spans if span.start < row.start] for row in rows],
        image_indices=indices,
        images=list(images.values()),
        trained=[[row.trained[row.start : row.stop]] for row in rows],
        completion_images=[[_later(row, of_row)] for row, of_row in zip(rows, indices, strict=True)],
        image_keys=list(images),
    )


def labels_of(rows: Sequence[LabelledRow]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the labels [B, 1 + C] of a batch, and a mask [B, T] of the tokens that are forwarded.

    Column 0 is empty, so that a count of labels that shifts them finds all.
    """
    width = max(row.stop - row.start for row in rows)
    labels_BC = torch.full((len(rows), 1 + width), IGNORED, dtype=torch.long)
    mask_BT = torch.zeros(len(rows), max(row.stop for row in rows), dtype=torch.long)
    for b, row in enumerate(rows):
        mask_BT[b, : row.stop] = 1
        for k in range(row.start, row.stop):
            if row.trained[k]:
                labels_BC[b, 1 + k - row.start] = row.prompt.ids[k]
    return labels_BC, mask_BT


def _later(row: LabelledRow, indices: Sequence[int]) -> list[CompletionImage]:
    """The images behind the first trained token."""
    return [
        CompletionImage(
            image=indices[span.image],
            span=_moved(span, by=-row.start),
            name=f"{row.prompt.example.source}: image marker {number}",
        )
        for number, span in enumerate(row.prompt.spans, start=1)
        if row.start <= span.start < row.stop
    ]


def _moved(span: ImageSpan, *, by: int) -> ImageSpan:
    runs = tuple((start + by, length) for start, length in span.runs)
    return ImageSpan(start=span.start + by, length=span.length, image=span.image, runs=runs)
