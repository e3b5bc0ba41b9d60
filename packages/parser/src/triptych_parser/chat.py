"""A bound prompt through the model's chat template, with look-alikes of special tokens in user text made harmless."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from triptych_parser.bind import BoundPrompt
from triptych_parser.errors import MarkerError
from triptych_parser.place import Place
from triptych_parser.prompt import ImageMarker

__all__ = ["Chat", "render_chat", "special_pattern"]

_PRIVATE_USE = range(0xE000, 0xF900)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A rendered prompt, cut at its images.

    A special token's text written by a user has `guard` after its first character, so that it is not that token.
    """

    parts: tuple[str, ...]
    """Texts before, between and after the images: one more than there are markers."""
    guard: str | None = None
    """The guard character; None when no user text looks like a special token."""


def special_pattern(tokens: Sequence[str]) -> re.Pattern[str]:
    """A pattern that finds any of the tokens, the longest first."""
    longest_first = sorted((token for token in tokens if len(token) > 1), key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def render_chat(
    bound: BoundPrompt,
    *,
    renderer: Any,
    template_token: str,
    specials: re.Pattern[str],
    on_special: Literal["text", "error"],
    template_options: Mapping[str, Any],
) -> Chat:
    """Write the messages through `renderer.apply_chat_template` and cut the result at the image tokens."""
    messages = bound.messages()
    guard = _guard(bound, messages, specials, on_special)
    rendered = renderer.apply_chat_template(messages, tokenize=False, **template_options)
    parts = tuple(rendered.split(template_token))
    if len(parts) - 1 != bound.prompt.num_markers:
        raise MarkerError(
            f"the chat template does not write {template_token} once for every image",
            source=bound.prompt.source,
            line=bound.prompt.line,
            expected=bound.prompt.num_markers,
            got=len(parts) - 1,
            remedy="pass a chat_template that handles {'type': 'image'} parts",
        )
    return Chat(parts=parts, guard=guard)


def _guard(
    bound: BoundPrompt, messages: list[dict[str, Any]], specials: re.Pattern[str], on_special: str
) -> str | None:
    """Break look-alikes in place; return the character used, or None when there was nothing to break."""
    parts = [part for message in messages for part in message.get("content", ()) if part["type"] == "text"]
    suspects = [part for part in parts if specials.search(part["text"])]
    if not suspects:
        return None
    if on_special == "error":
        raise _refusal(bound, specials)
    guard = _unused_character([part["text"] for part in parts])
    for part in suspects:
        while specials.search(part["text"]):  # breaking one look-alike can leave another that overlaps it
            part["text"] = specials.sub(lambda match: f"{match[0][0]}{guard}{match[0][1:]}", part["text"])
    return guard


def _unused_character(texts: list[str]) -> str:
    used = {char for text in texts for char in text}
    for code in _PRIVATE_USE:
        if chr(code) not in used:
            return chr(code)
    raise MarkerError("the prompt uses every private-use character", remedy="remove some of them")


def _refusal(bound: BoundPrompt, specials: re.Pattern[str]) -> MarkerError:
    prompt = bound.prompt
    remedy = "remove it, or pass on_special='text' to read it as plain text"
    for index, turn in enumerate(prompt.turns):
        for part, raw in enumerate(turn.raw):
            if found := specials.search(raw):
                place = Place(source=prompt.source, line=prompt.line, raw=turn.raw, message=index)
                where = ImageMarker(part=part, start=found.start(), end=found.end())
                return place.error("the text holds a special token of the model", marker=where, remedy=remedy)
    place = Place(source=prompt.source, line=prompt.line)
    return place.error("a label or annotation holds a special token of the model", remedy=remedy)
