"""A bound prompt to token ids and the places of its images, as the model's own processor would write them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from triptych_parser.bind import BoundPrompt
from triptych_parser.chat import ChatTemplateImages, OnSpecial
from triptych_parser.errors import MarkerError
from triptych_parser.spans import TokenizedPrompt
from triptych_parser.writer import Settings, Writer

__all__ = ["tokenize", "tokenize_batch"]


def tokenize(
    bound: BoundPrompt,
    processor: Any,
    *,
    image_sizes: Sequence[tuple[int, int]] | None = None,
    image_tokens: Sequence[int] | None = None,
    image_token: str | None = None,
    images_kwargs: Mapping[str, Any] | None = None,
    on_special: OnSpecial = "text",
    allow_special: Collection[str] = (),
    chat_template_images: ChatTemplateImages = "exact",
    chat_template: str | None = None,
    add_generation_prompt: bool = True,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> TokenizedPrompt:
    """Write the prompt through the model's own chat template, encode it, and expand its images in the ids.

    `processor` is any Hugging Face processor, or a tokenizer with a chat template, which then needs `image_token` and
    `image_tokens`. Of `image_sizes`, (height, width) in pixels as decoded, and `image_tokens`, the number of
    placeholders, one is given for each image of the sample. `images_kwargs` are the image options of the processor
    call to match (pan and scan, pixel limits).

    A special token's text in user text is encoded as plain text, or refused with `on_special="error"`; those in
    `allow_special` become special. `chat_template_images` says what to do with a chat template that moves images:
    refuse it ("exact"), write the image tokens into the text ("inline"), or accept it ("template").

    Raises MarkerError when counts do not fit, text is refused, or an image is moved.

    >>> class Words:  # stands in for a Hugging Face tokenizer
    ...     image_token, words = "<pad>", ["<pad>", "see", "and"]
    ...     all_special_tokens = ["<pad>"]
    ...     def __len__(self): return len(self.words)
    ...     def convert_tokens_to_ids(self, token): return self.words.index(token)
    ...     def apply_chat_template(self, messages, **options):
    ...         return " ".join(part.get("text", "<pad>").strip() for part in messages[0]["content"])
    ...     def __call__(self, text, **options):
    ...         return {"input_ids": [self.words.index(word) for word in text.split()]}
    >>> from triptych_parser import bind, parse
    >>> prompt = bind(parse("see <image> and <image>"), 2)
    >>> result = tokenize(prompt, Words(), image_token="<pad>", image_tokens=[3, 2])
    >>> result.ids
    [1, 0, 0, 0, 2, 0, 0]
    >>> [(span.image, span.start, span.length) for span in result.spans]
    [(0, 1, 3), (1, 5, 2)]
    """
    settings = Settings(
        image_token=image_token,
        images_kwargs=images_kwargs,
        on_special=on_special,
        allow_special=allow_special,
        chat_template_images=chat_template_images,
        chat_template=chat_template,
        add_generation_prompt=add_generation_prompt,
        chat_template_kwargs=chat_template_kwargs,
    )
    writer = Writer(processor, settings=settings)
    draft = writer.draft(bound, image_sizes=image_sizes, image_tokens=image_tokens)
    return writer.finish(bound, draft, writer.encode([draft])[0])


def tokenize_batch(
    bounds: Sequence[BoundPrompt],
    processor: Any,
    *,
    image_sizes: Sequence[Sequence[tuple[int, int]]] | None = None,
    image_tokens: Sequence[Sequence[int]] | None = None,
    **settings: Any,
) -> list[TokenizedPrompt]:
    """Tokenize several prompts as `tokenize` does each, with one call of the tokenizer for all of them.

    `image_sizes` and `image_tokens` have one list per prompt; `settings` are the other arguments of `tokenize`.

    >>> tokenize_batch([], object())
    []
    """
    if not bounds:
        return []
    writer = Writer(processor, settings=Settings(**settings))
    for name, given in (("image_sizes", image_sizes), ("image_tokens", image_tokens)):
        if given is not None and len(given) != len(bounds):
            raise MarkerError(
                f"{name} needs one list per prompt",
                expected=len(bounds),
                got=len(given),
                remedy=f"pass as many lists in {name} as there are prompts",
            )
    drafts = [
        writer.draft(
            bound,
            image_sizes=image_sizes[index] if image_sizes is not None else None,
            image_tokens=image_tokens[index] if image_tokens is not None else None,
        )
        for index, bound in enumerate(bounds)
    ]
    return [
        writer.finish(bound, draft, ids)
        for bound, draft, ids in zip(bounds, drafts, writer.encode(drafts), strict=True)
    ]
