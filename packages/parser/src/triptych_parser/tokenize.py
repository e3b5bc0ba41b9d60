"""A bound prompt to token ids and the places of its images, as the model's own processor would write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from triptych_parser.bind import BoundPrompt
from triptych_parser.chat import Chat, render_chat, special_pattern
from triptych_parser.errors import MarkerError
from triptych_parser.families import Expansion, Family, counted_family, family_of
from triptych_parser.vocabulary import encode, encode_guarded, special_tokens, token_id

__all__ = ["ImageSpan", "TokenizedPrompt", "tokenize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpan:
    """Where one marker's image stands in the ids.

    >>> ImageSpan(start=3, length=6, image=0, runs=((4, 4),)).num_features
    4
    """

    start: int
    """First position of the image: its opening special token, or its first placeholder where it has none."""
    length: int
    """How many positions from there to its last special token or placeholder."""
    image: int
    """0-based index of the image among the images of the sample."""
    runs: tuple[tuple[int, int], ...]
    """(start, length) of each run of placeholders that receive feature rows, in order."""

    @property
    def num_features(self) -> int:
        """How many feature rows the image fills.

        >>> ImageSpan(start=0, length=9, image=0, runs=((1, 3), (5, 3))).num_features
        6
        """
        return sum(length for _, length in self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedPrompt:
    """Ids of a prompt `ids_T` and one span per marker, in marker order.

    >>> TokenizedPrompt(ids=[5, 6], spans=()).num_tokens
    2
    """

    ids: list[int]
    spans: tuple[ImageSpan, ...]

    @property
    def num_tokens(self) -> int:
        """Length of the prompt in tokens.

        >>> TokenizedPrompt(ids=[1, 2, 3], spans=()).num_tokens
        3
        """
        return len(self.ids)


def tokenize(
    bound: BoundPrompt,
    processor: Any,
    *,
    image_sizes: Sequence[tuple[int, int]] | None = None,
    image_tokens: Sequence[int] | None = None,
    image_token: str | None = None,
    on_special: Literal["text", "error"] = "text",
    chat_template: str | None = None,
    add_generation_prompt: bool = True,
    template_options: Mapping[str, Any] | None = None,
) -> TokenizedPrompt:
    """Write the prompt through the model's own chat template, encode it, and expand its images in the ids.

    `processor` is any Hugging Face processor, or a tokenizer with a chat template (then `image_token` and
    `image_tokens` say what an image becomes). One of `image_sizes`, (height, width) in pixels, and `image_tokens`, the
    number of placeholders, is given for each image of the sample.

    A special token's text inside user text is encoded as plain text, or refused with `on_special="error"`.

    Raises MarkerError when counts do not fit, and when the chat template does not write every image.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    family = _family(bound, processor, image_sizes, image_tokens, image_token)
    expansions = _expansions(bound, family, image_sizes, image_tokens)
    specials = special_tokens(tokenizer)
    for token in (family.template_token, family.placeholder):
        specials.setdefault(token, token_id(tokenizer, token))
    pattern = special_pattern(list(specials))
    options: dict[str, Any] = {"add_generation_prompt": add_generation_prompt, **(template_options or {})}
    if chat_template is not None:
        options["chat_template"] = chat_template
    has_template = chat_template is not None or getattr(processor, "chat_template", None) is not None
    chat = render_chat(
        bound,
        renderer=processor if has_template else tokenizer,
        template_token=family.template_token,
        specials=pattern,
        on_special=on_special,
        template_options=options,
    )
    text = _compact(chat, expansions)
    begins = getattr(tokenizer, "bos_token", None)
    add = processor is not tokenizer and not (begins is not None and text.startswith(begins))
    if chat.guard is None:
        ids = encode(tokenizer, text, add_special_tokens=add)
    else:
        ids = encode_guarded(
            tokenizer, text, guard=chat.guard, pattern=pattern, specials=specials, add_special_tokens=add
        )
    return _expand(bound, ids, expansions, placeholder=specials[family.placeholder], edges=_edges(family, specials))


def _family(
    bound: BoundPrompt,
    processor: Any,
    image_sizes: Sequence[tuple[int, int]] | None,
    image_tokens: Sequence[int] | None,
    image_token: str | None,
) -> Family:
    if image_tokens is None and (image_token is None or image_sizes is not None):
        return family_of(processor)
    token = image_token or getattr(processor, "image_token", None)
    if not isinstance(token, str):
        raise MarkerError("no token stands for an image", remedy="pass image_token='<...>'")
    return counted_family(token, [image_tokens[image] for image in bound.image_order] if image_tokens else [])


def _expansions(
    bound: BoundPrompt,
    family: Family,
    image_sizes: Sequence[tuple[int, int]] | None,
    image_tokens: Sequence[int] | None,
) -> list[Expansion]:
    given = image_tokens if image_tokens is not None else image_sizes
    count = 0 if given is None else len(given)
    if count != bound.num_images:
        raise MarkerError(
            f"{'image_tokens' if image_tokens is not None else 'image_sizes'} does not have one entry per image",
            source=bound.prompt.source,
            line=bound.prompt.line,
            expected=bound.num_images,
            got=count,
            remedy="pass (height, width) for each image of the sample, in their order",
        )
    if image_tokens is not None:
        return family.expand(())
    return family.expand([image_sizes[image] for image in bound.image_order] if image_sizes else [])


def _compact(chat: Chat, expansions: list[Expansion]) -> str:
    pieces = [chat.parts[0]]
    for expansion, part in zip(expansions, chat.parts[1:], strict=True):
        pieces += (expansion.text, part)
    return "".join(pieces)


def _edges(family: Family, specials: dict[str, int]) -> tuple[int | None, int | None]:
    opening = specials.get(family.opening) if family.opening else None
    closing = specials.get(family.closing) if family.closing else None
    return opening, closing


def _expand(
    bound: BoundPrompt,
    ids: list[int],
    expansions: list[Expansion],
    *,
    placeholder: int,
    edges: tuple[int | None, int | None],
) -> TokenizedPrompt:
    """Repeat every placeholder as often as its run says, and note where each image came to stand."""
    written = sum(len(expansion.runs) for expansion in expansions)
    if ids.count(placeholder) != written:
        raise MarkerError(
            "the tokenizer did not keep every image placeholder",
            source=bound.prompt.source,
            line=bound.prompt.line,
            expected=written,
            got=ids.count(placeholder),
            remedy="register the image token as a special token of the tokenizer",
        )
    opening, closing = edges
    out: list[int] = []
    spans: list[ImageSpan] = []
    cursor = 0
    for image, expansion in zip(bound.image_order, expansions, strict=True):
        runs: list[tuple[int, int]] = []
        start = -1
        for count in expansion.runs:
            at = ids.index(placeholder, cursor)
            out += ids[cursor:at]
            if start < 0:
                start = len(out) - (1 if out and out[-1] == opening else 0)
            runs.append((len(out), count))
            out += [placeholder] * count
            cursor = at + 1
        end = len(out) + (1 if cursor < len(ids) and ids[cursor] == closing else 0)
        spans.append(ImageSpan(start=start, length=end - start, image=image, runs=tuple(runs)))
    out += ids[cursor:]
    return TokenizedPrompt(ids=out, spans=tuple(spans))
