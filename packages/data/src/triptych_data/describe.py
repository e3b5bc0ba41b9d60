"""What a row costs a model and why a run refuses it: the one place where prompts are tokenized and counted.

`check`, `preview`, `plan`, `eval`, training and the requests to vLLM all call it, so that none of them can disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from triptych_parser import ImageSpan, MarkerError, TokenizedPrompt, tokenize
from triptych_parser.expanders import expander_of

from triptych_data.budget import Budget, Size
from triptych_data.errors import DataError, ImageError
from triptych_data.example import Example
from triptych_data.generation_prompt import check_generation_prompt
from triptych_data.message_keys import unwritten_key
from triptych_data.model_tokens import ModelTokens
from triptych_data.prompt_settings import PromptSettings
from triptych_data.seen_headers import header_sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCount:
    """Contains the sizes of a prompt's images, and what they cost."""

    sizes: tuple[Size, ...]
    """(height, width) of each image as decoded."""
    resized: tuple[Size, ...] | None
    """The sizes that a run gives the images before the processor gets them; None where the processor alone resizes."""
    model_sizes: tuple[Size | None, ...]
    """(height, width) as the vision tower sees each; None where the processor tiles or crops by a rule of its own."""
    tokens: tuple[int, ...]
    """Placeholders of each image at one marker."""
    total: int
    """Placeholders over all markers: an image at two markers counts twice."""
    capped: bool = False
    """Whether the cap for the whole prompt made some of the images smaller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedPrompt:
    """Contains a prompt as a model gets it, without its pixels."""

    example: Example
    ids: list[int]
    """Token ids with every image expanded to its placeholders."""
    spans: tuple[ImageSpan, ...]
    """One span per marker, in order; `span.image` counts the images of this prompt from 0."""
    images: ImageCount
    refused: DataError | None = None
    """Why a run would refuse the prompt although it can be counted: it has more tokens than allowed."""

    @property
    def num_tokens(self) -> int:
        """All tokens of the prompt."""
        return len(self.ids)

    @property
    def num_image_tokens(self) -> int:
        """The tokens of its images, over all markers."""
        return self.images.total

    def accepted(self) -> CountedPrompt:
        """Return the prompt itself; raise DataError if a run would refuse it."""
        if self.refused is not None:
            raise self.refused
        return self


def describe(
    example: Example, *, model: ModelTokens, settings: PromptSettings, sizes: Sequence[Size] | None = None
) -> CountedPrompt:
    """Tokenize and count one row as a run does.

    `sizes` are the (height, width) of its images as decoded; without them the headers are read.
    Raises DataError where a run would refuse the row and nothing can be counted: an image that cannot be read or is
    too thin, images over their cap, text that cannot be tokenized. Too many tokens are `refused` in the result.
    """
    images = count_images(example, model=model, settings=settings, sizes=sizes)
    tokenized = _tokenized(example, images, model, settings)
    tokens = tokens_by_image(tokenized.spans, len(images.sizes))
    total = sum(span.num_features for span in tokenized.spans)
    images = _with_tokens(images, tokens=tokens, total=total)
    return CountedPrompt(
        example=example,
        ids=list(tokenized.ids),
        spans=tuple(tokenized.spans),
        images=images,
        refused=too_long(example, num_tokens=tokenized.num_tokens, num_image_tokens=total, settings=settings),
    )


def count_images(
    example: Example, *, model: ModelTokens, settings: PromptSettings, sizes: Sequence[Size] | None = None
) -> ImageCount:
    """Return the sizes and tokens of one row's images, without its text; this costs much less than `describe`.

    Raises DataError where a run would refuse the images.
    """
    sizes = tuple(header_sizes(example, policy=settings.policy) if sizes is None else sizes)
    budget, markers = settings.budget, example.prompt.image_order
    try:
        if budget == Budget() and not any(image.has_limits for image in example.images):
            own = model.vision.processor_targets(sizes, images=example.images, markers=markers)
            return ImageCount(
                sizes=sizes, resized=None, model_sizes=own.sizes, tokens=own.tokens, total=own.total(markers)
            )
        targets = model.vision.targets(sizes, images=example.images, budget=budget, markers=markers)
        free = targets if budget == Budget() else model.vision.targets(sizes, images=example.images, markers=markers)
    except ImageError as error:
        raise _refused(example, f"{error.image}: {error.reason}", error.remedy, error.kind) from error
    resized = tuple(size for size in targets.sizes if size is not None)
    return ImageCount(
        sizes=sizes,
        resized=resized if sizes and len(resized) == len(sizes) else None,
        model_sizes=targets.sizes,
        tokens=targets.tokens,
        total=targets.total(markers),
        capped=targets.sizes != free.sizes,
    )


def unexpanded_ids(example: Example, *, model: ModelTokens, settings: PromptSettings) -> list[int]:
    """Return the ids of the prompt as its chat template writes it, with one placeholder per image; engines expand these
    themselves.

    Raises DataError where the prompt cannot be tokenized.
    """
    return list(_tokenize(example, model, settings, unexpanded(model.processor, num_images=len(example.images))).ids)


def unexpanded(processor: Any, *, num_images: int) -> dict[str, Any]:
    """Return the arguments of `tokenize` with which every image stays the one placeholder of the chat template."""
    return {"image_token": expander_of(processor).template_token, "image_tokens": [1] * num_images}


def _tokenized(example: Example, images: ImageCount, model: ModelTokens, settings: PromptSettings) -> TokenizedPrompt:
    known: dict[str, Any] = {"image_sizes": images.resized or images.sizes}
    if images.resized is not None and expander_of(model.processor).template_writes_edges:
        known = {"image_tokens": images.tokens}  # the processor's own limits have no say about what it does not resize
    return _tokenize(example, model, settings, known)


def _tokenize(example: Example, model: ModelTokens, settings: PromptSettings, known: dict[str, Any]) -> TokenizedPrompt:
    check_generation_prompt(model.processor, settings.chat_template_kwargs)
    left_out = unwritten_key(example, model.processor, settings.chat_template_kwargs)
    if left_out is not None:
        raise _refused(example, *left_out, "tokens")
    try:
        return tokenize(
            example.prompt,
            model.processor,
            chat_template_kwargs=template_kwargs(example, settings),
            chat_template_images=settings.chat_template_images,
            **known,
        )
    except MarkerError as error:
        raise _refused(example, error.problem, error.remedy or "correct the prompt", "tokens") from error


def template_kwargs(example: Example, settings: PromptSettings) -> dict[str, Any]:
    """Return the arguments of the chat template for one row: those of the run, and the tools of its prompt."""
    own = {"tools": [dict(tool) for tool in example.tools]} if example.tools else {}
    return {**settings.chat_template_kwargs, **own}


def tokens_by_image(spans: Sequence[ImageSpan], num_images: int) -> tuple[int, ...]:
    """Return the feature rows of each image, which are as many at each of its markers."""
    tokens = [0] * num_images
    for span in spans:
        tokens[span.image] = span.num_features
    return tuple(tokens)


def _with_tokens(images: ImageCount, *, tokens: tuple[int, ...], total: int) -> ImageCount:
    """The same images with the tokens that the prompt really contains; where they differ, no model size is known."""
    pairs = zip(images.model_sizes, images.tokens, tokens, strict=True)
    model_sizes = tuple(size if planned == found else None for size, planned, found in pairs)
    return ImageCount(
        sizes=images.sizes,
        resized=images.resized,
        model_sizes=model_sizes,
        tokens=tokens,
        total=total,
        capped=images.capped,
    )


def too_long(example: Example, *, num_tokens: int, num_image_tokens: int, settings: PromptSettings) -> DataError | None:
    """Return the refusal of a prompt that has more tokens than the settings allow, or None if it has not."""
    limit, count = settings.max_prompt_tokens, len(example.images)
    if limit is None or num_tokens <= limit:
        return None
    return _refused(
        example,
        f"expected at most {limit} prompt tokens, got {num_tokens}, {num_image_tokens} of them for {count} "
        f"image{'s' * (count != 1)}",
        "raise --max_prompt_tokens, lower --max_pixels or --max_prompt_image_tokens, or drop the row "
        "(`triptych check --fix`)",
        "budget",
    )


def _refused(example: Example, reason: str, remedy: str, kind: str) -> DataError:
    name = None if example.id == example.source else example.id
    return DataError(reason, source=example.source, id=name, remedy=remedy, kind=kind)
