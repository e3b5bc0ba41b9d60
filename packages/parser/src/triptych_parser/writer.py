"""A processor made ready to write prompts: to one text with a placeholder per run, and from its ids to the prompt."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych_parser.bind import BoundPrompt
from triptych_parser.chat import Chat, OnSpecial, Placement, render_chat
from triptych_parser.choices import check_choice
from triptych_parser.families import Expansion, Family, family_of, token_family
from triptych_parser.guarded import encode_guarded
from triptych_parser.place import Place
from triptych_parser.spans import Edges, TokenizedPrompt, expand
from triptych_parser.vocabulary import Encoded, Vocabulary, encode, token_id, vocabulary_of

__all__ = ["Draft", "Images", "Settings", "Writer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How prompts are written and encoded; `tokenize` says what each means."""

    image_token: str | None = None
    images_kwargs: Mapping[str, Any] | None = None
    on_special: OnSpecial = "text"
    allow_special: Collection[str] = ()
    placement: Placement = "exact"
    chat_template: str | None = None
    add_generation_prompt: bool = True
    chat_template_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_choice("on_special", self.on_special, OnSpecial)
        check_choice("placement", self.placement, Placement)

    def options(self) -> dict[str, Any]:
        """Arguments of `apply_chat_template`."""
        options = {"add_generation_prompt": self.add_generation_prompt, **(self.chat_template_kwargs or {})}
        return options if self.chat_template is None else {**options, "chat_template": self.chat_template}


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """What is known of the images of a sample: sizes (height, width) in pixels, or their numbers of placeholders."""

    sizes: Sequence[tuple[int, int]] | None
    tokens: Sequence[int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A prompt as the text that is encoded: each image written with one placeholder per run."""

    chat: Chat
    text: str
    expansions: list[Expansion]
    add_special_tokens: bool


class Writer:
    """A processor or tokenizer with one group of settings."""

    __slots__ = ("family", "pattern", "processor", "renderer", "settings", "tokenizer", "vocabulary")

    def __init__(self, processor: Any, *, settings: Settings) -> None:
        self.processor = processor
        self.settings = settings
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.family: Family | None = self._family()
        own = settings.chat_template is not None or getattr(processor, "chat_template", None) is not None
        self.renderer = processor if own else self.tokenizer
        self.vocabulary: Vocabulary = vocabulary_of(self.tokenizer)
        self.pattern: re.Pattern[str] = self.vocabulary.pattern(extra=self._tokens(), allowed=settings.allow_special)

    def draft(self, bound: BoundPrompt, images: Images) -> Draft:
        """Write a prompt as text; MarkerError when the images given do not fit it."""
        expansions = self._expansions(bound, images)
        chat = render_chat(
            bound,
            renderer=self.renderer,
            family=self.family,
            specials=self.pattern,
            on_special=self.settings.on_special,
            placement=self.settings.placement,
            options=self.settings.options(),
        )
        pieces = [chat.parts[0]]
        for expansion, part in zip(expansions, chat.parts[1:], strict=True):
            pieces += (expansion.text, part)
        text = "".join(pieces)
        _check_characters(bound, text)
        bos = getattr(self.tokenizer, "bos_token", None)
        # A processor adds special tokens unless the template wrote the first one; a tokenizer's template writes all.
        add = self.processor is not self.tokenizer and not (bos is not None and text.startswith(bos))
        return Draft(chat=chat, text=text, expansions=expansions, add_special_tokens=add)

    def encode(self, draft: Draft, *, offsets: bool = False) -> Encoded:
        """Ids of a draft, with one placeholder per run."""
        if draft.chat.guard is None:
            return encode(self.tokenizer, draft.text, add_special_tokens=draft.add_special_tokens, offsets=offsets)
        return encode_guarded(
            self.tokenizer,
            draft.text,
            guard=draft.chat.guard,
            pattern=self.vocabulary.pattern(extra=self._tokens(), allowed=()),
            forbidden=self._forbidden(),
            add_special_tokens=draft.add_special_tokens,
            offsets=offsets,
        )

    def finish(self, bound: BoundPrompt, draft: Draft, ids: list[int]) -> TokenizedPrompt:
        """Expand the placeholders of a draft's ids."""
        if self.family is None or not draft.expansions:
            return TokenizedPrompt(ids=ids, spans=())
        return expand(
            ids,
            expansions=draft.expansions,
            images=bound.image_order,
            edges=self.edges(self.family),
            place=_place(bound),
        )

    def edges(self, family: Family) -> Edges:
        """Ids of the tokens that stand for an image and around it."""
        specials = self.vocabulary.specials
        return Edges(
            placeholder=self._id(family.placeholder),
            opening=specials.get(family.opening or ""),
            closing=specials.get(family.closing or ""),
            inside=not family.template_writes_edges,
        )

    def _tokens(self) -> tuple[str, ...]:
        return (self.family.template_token, self.family.placeholder) if self.family else ()

    def _id(self, token: str) -> int:
        known = self.vocabulary.specials.get(token)
        return token_id(self.tokenizer, token) if known is None else known

    def _forbidden(self) -> set[int]:
        """Ids that plain text never gets: all special ones but that of unknown characters."""
        ids = {*self.vocabulary.specials.values(), *map(self._id, self._tokens())}
        return ids - {getattr(self.tokenizer, "unk_token_id", None)}

    def _family(self) -> Family | None:
        if self.settings.image_token is not None:
            return token_family(self.settings.image_token)
        if self.processor is self.tokenizer:
            return None
        return family_of(self.processor, images_kwargs=self.settings.images_kwargs)

    def _expansions(self, bound: BoundPrompt, images: Images) -> list[Expansion]:
        _check_number(bound, images)
        if not bound.image_order:
            return []
        if self.family is None:
            raise _place(bound).error("no token stands for an image", remedy="pass a processor, or image_token='<...>'")
        if images.tokens is None:
            assert images.sizes is not None
            return self.family.expand([images.sizes[image] for image in bound.image_order])
        if not self.family.template_writes_edges:
            raise _place(bound).error(
                f"{type(self.processor).__name__} writes more than placeholders for an image",
                remedy="pass image_sizes instead of image_tokens",
            )
        return [Expansion(text=self.family.placeholder, runs=(images.tokens[image],)) for image in bound.image_order]


def _place(bound: BoundPrompt) -> Place:
    return Place(source=bound.prompt.source, line=bound.prompt.line)


def _check_number(bound: BoundPrompt, images: Images) -> None:
    given = images.tokens if images.tokens is not None else images.sizes
    count = 0 if given is None else len(given)
    if count != bound.num_images:
        raise _place(bound).error(
            f"{'image_tokens' if images.tokens is not None else 'image_sizes'} needs one entry per image",
            expected=bound.num_images,
            got=count,
            remedy="pass (height, width) for each image of the sample, in their order",
        )


def _check_characters(bound: BoundPrompt, text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _place(bound).error(
            "the text holds half of a character that JSON writes as two",
            got=repr(text[error.start : error.end]),
            remedy="repair the text where its emoji or rare characters were cut",
        ) from error
