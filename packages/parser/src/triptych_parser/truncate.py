"""Bring a prompt within a number of tokens without ever cutting an image."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Literal

from triptych_parser.bind import BoundPrompt
from triptych_parser.chat import inline_edges, probe
from triptych_parser.errors import MarkerError
from triptych_parser.place import Place
from triptych_parser.prompt import ImageMarker, Prompt
from triptych_parser.spans import TokenizedPrompt
from triptych_parser.writer import Draft, Images, Writer

__all__ = ["Truncate", "drop_images", "drop_text", "too_long"]

Truncate = Literal["error", "text_left", "text_right", "drop_images_from_end"]


def too_long(bound: BoundPrompt, result: TokenizedPrompt, limit: int, *, hint: str = "") -> MarkerError:
    """The error for a prompt that does not fit."""
    images = sum(span.length for span in result.spans)
    return Place(source=bound.prompt.source, line=bound.prompt.line).error(
        f"the prompt is too long{hint}: {images} of its tokens are images",
        expected=f"at most {limit} tokens",
        got=result.num_tokens,
        remedy="raise max_prompt_tokens, use smaller images, or choose another truncate policy",
    )


def drop_images(
    writer: Writer, bound: BoundPrompt, images: Images, result: TokenizedPrompt, limit: int
) -> TokenizedPrompt:
    """Take markers from the end, with their labels and annotations, until the prompt fits."""
    dropped: tuple[int, ...] = ()
    whole = result
    while result.num_tokens > limit:
        if not bound.image_order:
            raise too_long(bound, whole, limit, hint=" even without images")
        over, count = result.num_tokens - limit, 0
        for span in reversed(result.spans):
            over, count = over - span.length, count + 1
            if over <= 0:
                break
        dropped = bound.image_order[-count:] + dropped
        bound = _without_last(bound, count)
        draft = writer.draft(bound, images)
        result = writer.finish(bound, draft, writer.encode(draft).ids)
    return replace(result, dropped_images=dropped)


def _without_last(bound: BoundPrompt, count: int) -> BoundPrompt:
    keep = len(bound.image_order) - count
    seen = 0
    turns = []
    for turn in bound.prompt.turns:
        segments = []
        for segment in turn.segments:
            seen += isinstance(segment, ImageMarker)
            if not isinstance(segment, ImageMarker) or seen <= keep:
                segments.append(segment)
        turns.append(replace(turn, segments=tuple(segments)))
    prompt: Prompt = replace(bound.prompt, turns=tuple(turns))
    return replace(bound, prompt=prompt, image_order=bound.image_order[:keep])


def drop_text(
    writer: Writer,
    bound: BoundPrompt,
    draft: Draft,
    whole: TokenizedPrompt,
    limit: int,
    *,
    side: Literal["left", "right"],
) -> TokenizedPrompt:
    """Take tokens of the messages' own text from one side; what the template and the images wrote stays."""
    encoded = writer.encode(draft, offsets=True)
    assert encoded.offsets is not None
    assert encoded.ids == writer.encode(draft).ids, "asking for offsets changed the ids"
    ranges = text_ranges(writer, bound, draft)
    droppable = _inside(encoded.offsets, ranges)
    groups = _characters(encoded.offsets, droppable)
    over = whole.num_tokens - limit
    gone: set[int] = set()
    for group in groups if side == "left" else reversed(groups):
        if over <= 0:
            break
        gone.update(group)
        over -= len(group)
    if over > 0:
        raise too_long(bound, whole, limit, hint=" even without its text")
    kept = [number for index, number in enumerate(encoded.ids) if index not in gone]
    return replace(writer.finish(bound, draft, kept), num_dropped_tokens=len(gone))


def _inside(offsets: list[tuple[int, int]], ranges: list[tuple[int, int]]) -> list[int]:
    """Indexes of the tokens whose characters all lie in one of the (sorted) ranges."""
    inside: list[int] = []
    at = 0
    for index, (first, last) in enumerate(offsets):
        while at < len(ranges) and ranges[at][1] <= first:
            at += 1
        if at < len(ranges) and ranges[at][0] <= first < last <= ranges[at][1]:
            inside.append(index)
    return inside


def _characters(offsets: list[tuple[int, int]], indexes: list[int]) -> list[list[int]]:
    """The tokens in groups that must go together: those that share a character."""
    groups: list[list[int]] = []
    reach = -1
    for index in indexes:
        first, last = offsets[index]
        if groups and first < reach:
            groups[-1].append(index)
        else:
            groups.append([index])
        reach = max(reach, last)
    return groups


def text_ranges(writer: Writer, bound: BoundPrompt, draft: Draft) -> list[tuple[int, int]]:
    """Where in the draft's text the texts of the messages stand, as sorted (first, last + 1) characters.

    The template is rendered once more with stand-ins for the texts; what it writes between them is then found again
    around the real ones. A template may trim a text, and leaves out what it trims.
    """
    family, messages = writer.family, draft.chat.messages
    glue = probe(bound, messages, renderer=writer.renderer, family=family, options=writer.settings.options())
    pieces = [part for message in messages for part in message.get("content", ())]
    images = iter(expansion.text for expansion in draft.expansions)
    opening, closing = inline_edges(family) if family else ("", "")
    inline = f"{opening}{family.template_token}{closing}" if family and writer.settings.placement == "inline" else ""
    ranges: list[tuple[int, int]] = []
    cursor = 0
    for piece, before, after in zip(pieces, glue, glue[1:], strict=False):
        cursor = _skip(draft.text, before, cursor, bound)
        if piece["type"] != "text":
            cursor = _skip(draft.text, next(images), cursor, bound)
            continue
        written = [f"{opening}{next(images)}{closing}" for _ in range(piece["text"].count(inline) if inline else 0)]
        found = _find_piece(draft.text, cursor, piece["text"], after, inline, written)
        if found is None:
            raise _lost(bound)
        ranges += found
        cursor = found[-1][1]
    return ranges


def _find_piece(
    text: str, cursor: int, piece: str, after: str, inline: str, written: list[str]
) -> list[tuple[int, int]] | None:
    """Where a text stands that begins at `cursor`, perhaps trimmed: its ranges between the images written into it."""
    for variant in (piece, piece.rstrip(), piece.lstrip(), piece.strip()):
        stretches = variant.split(inline) if inline else [variant]
        whole = "".join(chain.from_iterable(zip(stretches, [*written, ""], strict=True)))
        if not text.startswith(whole + after, cursor):
            continue
        ranges = []
        for stretch, image in zip(stretches, [*written, ""], strict=True):
            ranges.append((cursor, cursor + len(stretch)))
            cursor += len(stretch) + len(image)
        return ranges
    return None


def _skip(text: str, expected: str, cursor: int, bound: BoundPrompt) -> int:
    if not text.startswith(expected, cursor):
        raise _lost(bound)
    return cursor + len(expected)


def _lost(bound: BoundPrompt) -> MarkerError:
    return Place(source=bound.prompt.source, line=bound.prompt.line).error(
        "the chat template changes the texts, so they cannot be cut", remedy="use truncate='error'"
    )
