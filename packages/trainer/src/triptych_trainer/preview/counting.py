"""What a prompt costs a model: sizes its images are fed at and tokens, from headers and text, as a run counts them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from triptych_data import Budget, DataError, Example, ImageError, VisionSpec
from triptych_data.inspect_row import too_long, uncounted
from triptych_parser import MarkerError, Refusal, TokenizedPrompt, tokenize

from triptych_trainer.preview.row import Size

Placement = Literal["exact", "inline", "template"]


class PreviewError(Refusal, ValueError):
    """A preview that cannot be made; its text says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Tokens of one prompt and of each of its images, and the sizes they are fed at."""

    tokens: int
    image_tokens: int
    """Over all markers: an image that stands twice counts twice."""
    per_image: tuple[int, ...]
    fed: tuple[Size | None, ...]
    """(height, width) in pixels; None where the processor resizes or tiles by a rule of its own."""
    capped: bool = False
    """Whether the cap for all images of the prompt made some of them smaller."""
    refused: DataError | None = None
    """The prompt is longer than allowed."""


class TokenCounter:
    """Counts with a model's own processor and chat template."""

    def __init__(
        self,
        processor: Any,
        *,
        max_prompt_image_tokens: int | None = None,
        max_prompt_tokens: int | None = None,
        chat_template_images: Placement = "exact",
    ) -> None:
        self.processor = processor
        self.vision = VisionSpec.from_processor(processor)
        self.budget = Budget(max_prompt_image_tokens=max_prompt_image_tokens)
        self.max_prompt_tokens = max_prompt_tokens
        self.chat_template_images = chat_template_images

    def __call__(self, example: Example, sizes: Sequence[Size]) -> Count:
        """Count an example whose images have these sizes as decoded.

        Raises:
            DataError: a run would refuse the row: images over their cap or too thin, or text that cannot be tokenized.
        """
        from triptych_trainer.prompts.prepare import (
            planned_sizes,  # brings torch, which a preview without a model does without
        )

        try:
            planned = planned_sizes(example, sizes, vision=lambda: self.vision, budget=self.budget)
            free = None if self.vision.factor is None else self.vision.plan(sizes, images=example.images)
            tokenized = self._tokenized(example, planned or sizes)
        except (ImageError, MarkerError) as error:
            raise uncounted(error, example) from error
        per_image = _per_image(tokenized, len(sizes))
        fed: Sequence[Size | None] = planned or [None] * len(sizes)
        if planned is None and free is not None and free.tokens == per_image:
            fed = free.sizes
        image_tokens = sum(span.num_features for span in tokenized.spans)
        return Count(
            tokens=tokenized.num_tokens,
            image_tokens=image_tokens,
            per_image=per_image,
            fed=tuple(fed),
            capped=planned is not None and free is not None and planned != free.sizes,
            refused=self._too_long(example, tokenized.num_tokens, image_tokens),
        )

    def written(self, example: Example, sizes: Sequence[Size]) -> str:
        """The whole prompt as its tokens read, chat template included, with the tokens of each image counted.

        `sizes` are those that the images are fed at, or as decoded where that is not known.
        """
        tokenized, tokenizer = self._tokenized(example, sizes), self.processor.tokenizer
        pieces, done = [], 0
        for start, length in (run for span in tokenized.spans for run in span.runs):
            pieces += [tokenizer.decode(tokenized.ids[done:start]), tokenizer.decode(tokenized.ids[start : start + 1])]
            pieces.append(f" (x {length})" if length > 1 else "")
            done = start + length
        return "".join([*pieces, tokenizer.decode(tokenized.ids[done:])])

    def _tokenized(self, example: Example, sizes: Sequence[Size]) -> TokenizedPrompt:
        return tokenize(
            example.prompt, self.processor, image_sizes=sizes, chat_template_images=self.chat_template_images
        )

    def _too_long(self, example: Example, tokens: int, image_tokens: int) -> DataError | None:
        limit = self.max_prompt_tokens
        if limit is None or tokens <= limit:
            return None
        return too_long(example, tokens=tokens, image_tokens=image_tokens, limit=limit)

    def change(self, source: Size, fed: Size | None) -> Literal["shrunk", "enlarged"] | None:
        """Whether the pixel limits changed an image by more than the rounding to whole tokens."""
        if fed is None or self.vision.factor is None:
            return None
        side = self.vision.factor
        natural = [max(1, round(length / side)) * side for length in source]
        if fed[0] * fed[1] < natural[0] * natural[1]:
            return "shrunk"
        return "enlarged" if fed[0] * fed[1] > natural[0] * natural[1] else None


def load_counter(
    model: str,
    *,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    **options: Any,
) -> TokenCounter:
    """Load the processor of a model folder or hub name, with the pixel limits of the run.

    Raises:
        PreviewError: there is no processor, or it has no pixel limits to set.
    """
    from triptych_trainer.commands.train import quiet_libraries
    from triptych_trainer.errors import UsageError
    from triptych_trainer.models.load import load_processor

    quiet_libraries()
    try:
        processor = load_processor(model, min_pixels=min_pixels, max_pixels=max_pixels, option="--model")
    except UsageError as error:
        raise PreviewError(str(error)) from error
    return TokenCounter(processor, **options)


def _per_image(tokenized: TokenizedPrompt, num_images: int) -> tuple[int, ...]:
    tokens = dict.fromkeys(range(num_images), 0)
    for span in reversed(tokenized.spans):
        tokens[span.image] = span.num_features
    return tuple(tokens.values())
