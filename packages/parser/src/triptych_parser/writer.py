"""A processor made ready to write prompts: to one text with a placeholder per run, and from its ids to the prompt."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from triptych_parser.backend import encode_texts
from triptych_parser.bind import BoundPrompt
from triptych_parser.chat import ChatTemplateImages, OnSpecial, render_chat
from triptych_parser.choices import check_choice
from triptych_parser.errors import MarkerError
from triptych_parser.expanders import Expansion, ImageExpander, expander_of, token_expander
from triptych_parser.expanders.options import call_defaults
from triptych_parser.guarded import encode_guarded
from triptych_parser.place import Place
from triptych_parser.spans import Edges, TokenizedPrompt, expand
from triptych_parser.vocabulary import Vocabulary, token_id, vocabulary_of

__all__ = ["Draft", "Settings", "Writer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Says how prompts are written and encoded; `tokenize` says what each setting means."""

    image_token: str | None = None
    images_kwargs: Mapping[str, Any] | None = None
    on_special: OnSpecial = "text"
    allow_special: Collection[str] = ()
    chat_template_images: ChatTemplateImages = "exact"
    chat_template: str | None = None
    add_generation_prompt: bool = True
    chat_template_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_choice("on_special", self.on_special, OnSpecial)
        check_choice("chat_template_images", self.chat_template_images, ChatTemplateImages)

    def options(self) -> dict[str, Any]:
        """Return the arguments of `apply_chat_template`."""
        options = {"add_generation_prompt": self.add_generation_prompt, **(self.chat_template_kwargs or {})}
        return options if self.chat_template is None else {**options, "chat_template": self.chat_template}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Contains a prompt as the text that is encoded: each image written with one placeholder per run."""

    text: str
    expansions: list[Expansion]
    guard: str | None
    """The character that breaks look-alikes of special tokens in the text; None when there are none."""
    add_special_tokens: bool


class Writer:
    """Joins a processor or tokenizer with one group of settings."""

    __slots__ = ("expander", "pattern", "processor", "renderer", "settings", "tokenizer", "vocabulary")

    def __init__(self, processor: Any, *, settings: Settings) -> None:
        self.processor = processor
        self.settings = settings
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.expander: ImageExpander | None = self._expander()
        own = settings.chat_template is not None or getattr(processor, "chat_template", None) is not None
        if not own and getattr(self.tokenizer, "chat_template", "some") is None:
            raise MarkerError(
                f"{type(processor).__name__} has no chat template", remedy="pass chat_template='...', written for Jinja"
            )
        self.renderer = processor if own else self.tokenizer
        self.vocabulary: Vocabulary = vocabulary_of(self.tokenizer)
        self.pattern: re.Pattern[str] = self.vocabulary.pattern(extra=self._tokens(), allowed=settings.allow_special)

    def draft(
        self,
        bound: BoundPrompt,
        *,
        image_sizes: Sequence[tuple[int, int]] | None,
        image_tokens: Sequence[int] | None,
    ) -> Draft:
        """Write a prompt as text; MarkerError when the images given do not fit it."""
        expansions = self._expansions(bound, image_sizes, image_tokens)
        options = self.settings.options()
        parts, guard = self._rendered(bound, options)
        text = _joined(parts, expansions)
        _check_characters(bound, text)
        if self.expander is not None and self.expander.finish is not None:
            before = ""
            if self.expander.finishes_prompt and _is_answered(bound, options):
                before = self._before_answer(bound, expansions, text=text, guard=guard)
            text = self.expander.finish(before or text) + text[len(before or text) :]
        add = self._adds_special_tokens(parts[0])
        return Draft(text=text, expansions=expansions, guard=guard, add_special_tokens=add)

    def _rendered(self, bound: BoundPrompt, options: Mapping[str, Any]) -> tuple[tuple[str, ...], str | None]:
        return render_chat(
            bound,
            renderer=self.renderer,
            expander=self.expander,
            specials=self.pattern,
            on_special=self.settings.on_special,
            chat_template_images=self.settings.chat_template_images,
            options=options,
        )

    def _before_answer(
        self, bound: BoundPrompt, expansions: Sequence[Expansion], *, text: str, guard: str | None
    ) -> str:
        """The text of a conversation up to its last turn, as the prompt of that turn is written."""
        turns = bound.prompt.turns[:-1]
        prompt = replace(bound, prompt=replace(bound.prompt, turns=turns))
        if prompt.prompt.num_markers == bound.prompt.num_markers:
            parts, own = self._rendered(prompt, {**self.settings.options(), "add_generation_prompt": True})
            before = _joined(parts, expansions)
            before = before.replace(own, guard) if own is not None and guard is not None else before
            if before and text.startswith(before):
                return before
        raise _place(bound).error(
            f"{type(self.processor).__name__} takes one answer behind a prompt that contains all images, and the chat "
            "template does not write this conversation so",
            remedy="put the images before the answer, or pass a chat_template that writes the turns one after another",
        )

    def _adds_special_tokens(self, beginning: str) -> bool:
        """A processor does unless the template wrote the first one; the template of a tokenizer alone writes all."""
        if self.processor is self.tokenizer:
            return False
        bos = getattr(self.tokenizer, "bos_token", None)
        if bos is not None and beginning.startswith(bos):
            return False
        named = getattr(self.tokenizer, "init_kwargs", None) or {}
        options = {**call_defaults(self.processor, "text_kwargs"), **named}
        return bool(options.get("add_special_tokens", True))

    def encode(self, drafts: Sequence[Draft]) -> list[list[int]]:
        """Encode each draft to ids, with one placeholder per run; drafts without a guard go through the tokenizer
        together.
        """
        encoded: dict[int, list[int]] = {}
        for add in (False, True):
            together = [
                index for index, draft in enumerate(drafts) if draft.guard is None and draft.add_special_tokens is add
            ]
            if together:
                texts = [drafts[index].text for index in together]
                encoded.update(zip(together, encode_texts(self.tokenizer, texts, add_special_tokens=add), strict=True))
        return [encoded[index] if index in encoded else self._guarded(draft) for index, draft in enumerate(drafts)]

    def _guarded(self, draft: Draft) -> list[int]:
        assert draft.guard is not None
        return encode_guarded(
            self.tokenizer,
            draft.text,
            guard=draft.guard,
            pattern=self.vocabulary.pattern(extra=self._tokens(), allowed=()),
            forbidden=self._forbidden(),
            add_special_tokens=draft.add_special_tokens,
        )

    def finish(self, bound: BoundPrompt, draft: Draft, ids: list[int]) -> TokenizedPrompt:
        """Expand the placeholders of a draft's ids."""
        if self.expander is None or not draft.expansions:
            return TokenizedPrompt(ids=ids, spans=())
        return expand(
            ids,
            expansions=draft.expansions,
            images=bound.image_order,
            edges=self._edges(self.expander),
            place=_place(bound),
        )

    def _edges(self, expander: ImageExpander) -> Edges:
        """Ids of the tokens that represent an image and around it."""
        specials = self.vocabulary.specials
        return Edges(
            placeholder=self._id(expander.placeholder),
            opening=specials.get(expander.opening or ""),
            closings=tuple(specials[token] for token in expander.closings if token in specials),
            inside=not expander.template_writes_edges,
        )

    def _tokens(self) -> tuple[str, ...]:
        return (self.expander.template_token, self.expander.placeholder) if self.expander else ()

    def _id(self, token: str) -> int:
        known = self.vocabulary.specials.get(token)
        return token_id(self.tokenizer, token) if known is None else known

    def _forbidden(self) -> set[int]:
        """Ids that plain text never gets: all special ones but that of unknown characters."""
        ids = {*self.vocabulary.specials.values(), *map(self._id, self._tokens())}
        return ids - {getattr(self.tokenizer, "unk_token_id", None)}

    def _expander(self) -> ImageExpander | None:
        if self.settings.image_token is not None:
            return token_expander(self.settings.image_token)
        if self.processor is self.tokenizer:
            return None
        return expander_of(self.processor, images_kwargs=self.settings.images_kwargs)

    def _expansions(
        self, bound: BoundPrompt, sizes: Sequence[tuple[int, int]] | None, tokens: Sequence[int] | None
    ) -> list[Expansion]:
        _check_number(bound, "image_sizes" if tokens is None else "image_tokens", sizes if tokens is None else tokens)
        if not bound.image_order:
            if self.expander is not None and not self.expander.takes_text_only:
                raise _place(bound).error(
                    f"{type(self.processor).__name__} takes no prompt without an image",
                    remedy="add an image to the record or take the record out",
                )
            return []
        if self.expander is None:
            raise _place(bound).error(
                "no token is known to stand for an image", remedy="pass a processor, or image_token='<...>'"
            )
        if tokens is None:
            assert sizes is not None
            return self.expander.expand([sizes[image] for image in bound.image_order])
        if not self.expander.template_writes_edges:
            raise _place(bound).error(
                f"{type(self.processor).__name__} writes more than placeholders for an image",
                remedy="pass image_sizes instead of image_tokens",
            )
        return [Expansion(text=self.expander.placeholder, runs=(tokens[image],)) for image in bound.image_order]


def _joined(parts: Sequence[str], expansions: Sequence[Expansion]) -> str:
    pieces = [parts[0]]
    for expansion, part in zip(expansions, parts[1:], strict=True):
        pieces += (expansion.text, part)
    return "".join(pieces)


def _is_answered(bound: BoundPrompt, options: Mapping[str, Any]) -> bool:
    """Whether the messages are a whole conversation, and not a prompt that a model goes on from."""
    return bound.prompt.turns[-1].role == "assistant" and options.get("add_generation_prompt") is False


def _place(bound: BoundPrompt) -> Place:
    return Place(source=bound.prompt.source, line=bound.prompt.line)


def _check_number(bound: BoundPrompt, name: str, given: Sequence[object] | None) -> None:
    count = 0 if given is None else len(given)
    if count != bound.num_images:
        raise _place(bound).error(
            f"{name} needs one entry per image",
            expected=bound.num_images,
            got=count,
            remedy="pass (height, width) for each image of the sample, in their order",
        )


def _check_characters(bound: BoundPrompt, text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _place(bound).error(
            "the text contains half of a character that JSON writes as two",
            got=repr(text[error.start : error.end]),
            remedy="repair the text where its emoji or rare characters were cut",
        ) from error
