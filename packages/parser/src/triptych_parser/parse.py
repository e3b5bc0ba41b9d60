"""Text or messages to a `Prompt`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triptych_parser.dialects import LABEL, Dialect, get_dialect, read_label
from triptych_parser.parts import IMAGE_PARTS, read_part
from triptych_parser.place import Place, place_in
from triptych_parser.prompt import ImageMarker, Prompt, Segment, Text, Turn
from triptych_parser.reference import is_name
from triptych_parser.scan import scan

__all__ = ["parse"]


def parse(
    text_or_messages: str | Sequence[Mapping[str, Any]],
    *,
    dialect: str = "image",
    source: str | None = None,
    line: int | None = None,
    role: str = "user",
) -> Prompt:
    """Split a prompt into turns of ordered segments.

    A string becomes one turn of `role`. Messages have string content, or a list of parts (`{"type": "image"}`,
    `{"type": "image_url", ...}`, `{"type": "text", "text": ...}`). Markers in text are read in `dialect`; in the
    dialects "parts" and "openai" text is only text. `source` and `line` name the record in every later error.

    Raises MarkerError for a reference that cannot be right, for numbered or named markers mixed with plain ones, for
    image parts mixed with markers in text, and for parts that are neither text nor image.

    >>> prompt = parse("Before: <image> After: <image|the second tap>")
    >>> [segment.text if isinstance(segment, Text) else segment.annotation for segment in prompt.turns[0].segments]
    ['Before: ', None, ' After: ', 'the second tap']
    >>> parse(r"write \\<image> for a picture").num_markers
    0
    """
    table = get_dialect(dialect)
    if isinstance(text_or_messages, str):
        place = Place(source=source, line=line, raw=(text_or_messages,))
        segments = tuple(_text_segments(text_or_messages, table, place, part=None))
        turns: tuple[Turn, ...] = (Turn(role=role, segments=segments, raw=place.raw),)
        prompt = Prompt(turns=turns, dialect=dialect, plain=True, source=source, line=line)
    else:
        turns = tuple(
            _turn(message, table, source=source, line=line, index=index)
            for index, message in enumerate(text_or_messages)
        )
        prompt = Prompt(turns=turns, dialect=dialect, source=source, line=line)
    _check_kinds(prompt)
    if table.labelled:
        _check_labels(prompt)
    return prompt


def _turn(message: Mapping[str, Any], table: Dialect, *, source: str | None, line: int | None, index: int) -> Turn:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        place = Place(source=source, line=line, message=index)
        raise place.error("a message needs a 'role' that is a string", got=_shorten(message))
    extra = {key: value for key, value in message.items() if key not in ("role", "content")}
    role, content = message["role"], message.get("content")
    if content is None:
        return Turn(role=role, segments=(), content="none", extra=extra)
    if isinstance(content, str):
        raw = (content,)
        place = Place(source=source, line=line, raw=raw, message=index)
        segments = tuple(_text_segments(content, table, place, part=None))
        return Turn(role=role, segments=segments, extra=extra, raw=raw)
    place = Place(source=source, line=line, message=index)
    if not isinstance(content, Sequence):
        raise place.error("message content must be a string or a list of parts", got=type(content).__name__)
    place = place.reading(tuple(_part_text(part) for part in content))
    segments = tuple(
        segment for number, part in enumerate(content) for segment in _part_segments(part, table, place, number)
    )
    return Turn(role=role, segments=segments, content="parts", extra=extra, raw=place.raw)


def _part_text(part: object) -> str:
    text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else ""
    return text if isinstance(text, str) else ""


def _part_segments(part: Mapping[str, Any], table: Dialect, place: Place, index: int) -> list[Segment]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        text: str = part["text"]
        return _text_segments(text, table, place, part=index) or [Text(text="", part=index)]
    if kind in IMAGE_PARTS:
        return [read_part(part, index)]
    raise place.error(
        f"part {index + 1} is neither text nor image",
        got=_shorten(part),
        remedy="use {'type': 'text', 'text': ...} or {'type': 'image'}",
    )


def _text_segments(text: str, table: Dialect, place: Place, *, part: int | None) -> list[Segment]:
    if table.opener is None or table.matcher is None:
        return [Text(text=text, part=part)] if text else []
    if table.plain is not None and "\\" not in text and text.count(table.opener) == text.count(table.plain):
        return _plain_segments(text, table.plain, part)
    segments: list[Segment] = []
    for piece in scan(text, opener=table.opener, matcher=table.matcher):
        if isinstance(piece, str):
            segments.append(Text(text=piece, part=part))
            continue
        marker = ImageMarker(ref=piece.ref, annotation=piece.annotation, part=part, start=piece.start, end=piece.end)
        _check_ref(marker, place)
        segments.append(marker)
    return segments


def _plain_segments(text: str, marker: str, part: int | None) -> list[Segment]:
    """What `scan` finds in a text without escapes all of whose markers are written in one way, in half the time."""
    first, *others = text.split(marker)
    segments: list[Segment] = [Text(text=first, part=part)] if first else []
    at = len(first)
    for piece in others:
        segments.append(ImageMarker(part=part, start=at, end=at + len(marker)))
        if piece:
            segments.append(Text(text=piece, part=part))
        at += len(marker) + len(piece)
    return segments


def _check_ref(marker: ImageMarker, place: Place) -> None:
    if marker.ref == 0:
        raise place.error("images are numbered from 1", marker=marker, got=0, remedy="write <image:1> for the first")
    if isinstance(marker.ref, str) and not is_name(marker.ref):
        raise place.error(
            "an image name must not be empty or start or end with a space",
            marker=marker,
            got=repr(marker.ref),
            remedy="write <image:name>, or \\<image:...> for the literal text",
        )


def _check_kinds(prompt: Prompt) -> None:
    """Refuse prompts in which it is unclear which image a marker means."""
    first: ImageMarker | None = None
    for index, turn in enumerate(prompt.turns):
        for segment in turn.segments:
            if isinstance(segment, Text):
                continue
            first = first or segment
            if (first.structured is None) != (segment.structured is None):
                raise place_in(prompt, index).error(
                    "image parts and markers in text are mixed in one prompt",
                    marker=segment,
                    remedy="pass dialect='parts' to read the text as it is, or escape the marker with a backslash",
                )
            if (first.ref is None) != (segment.ref is None):
                raise place_in(prompt, index).error(
                    "markers in order and markers by number or name are mixed in one prompt",
                    marker=segment,
                    remedy="number or name all of them, or none",
                )


def _check_labels(prompt: Prompt) -> None:
    """Refuse "Image-2: " before the first image: the model's images come in order whatever the label says."""
    number = 0
    for index, turn in enumerate(prompt.turns):
        before = ""
        for segment in turn.segments:
            if isinstance(segment, Text):
                before = (before + segment.text)[-20:]
                continue
            number += 1
            label = read_label(before)
            if label not in (None, number):
                raise place_in(prompt, index).error(
                    "the label before the image has another number",
                    marker=segment,
                    expected=LABEL.format(number).strip(),
                    got=LABEL.format(label).strip(),
                    remedy="number the labels in the order of the images",
                )
            before = ""


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
