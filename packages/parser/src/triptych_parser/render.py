"""A `Prompt` back to text or messages, in its own dialect or another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

from triptych_parser.bind import BoundPrompt
from triptych_parser.choices import check_choice
from triptych_parser.dialects import LABEL, Dialect, get_dialect, read_label
from triptych_parser.parts import translate_part, write_part
from triptych_parser.place import Place
from triptych_parser.prompt import ImageMarker, Prompt, Segment, Text, Turn, join_texts
from triptych_parser.reference import is_name
from triptych_parser.scan import escape

__all__ = ["Converted", "convert", "render"]

Annotations = Literal["aside", "text", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """Contains a prompt in another dialect, and which image each of its markers takes.

    >>> from triptych_parser import parse
    >>> convert(parse("<image:2> <image:1>"), to="qwen").image_order
    (1, 0)
    """

    prompt: Prompt
    image_order: tuple[int, ...]
    """For each marker in reading order, the 0-based index of its image in the original list. A dialect without numbers
    takes images in order, so give the model `[images[k] for k in image_order]`."""


def render(prompt: Prompt, *, annotations: Annotations = "aside") -> str | list[dict[str, Any]]:
    """Write a prompt in its own dialect: a string when it was parsed from one, messages otherwise.

    `render(parse(x, dialect=d)) == x` for every `x` that parses. A dialect whose markers hold no annotation leaves it
    aside (it stays in the prompt), writes it into the text as "annotation: ", or refuses it.

    Raises MarkerError for a reference the dialect cannot write; `convert` resolves those.

    >>> from triptych_parser import parse
    >>> render(parse(r"See <image:cat|a cat> and \\<image>"))
    'See <image:cat|a cat> and \\\\<image>'
    """
    check_choice("annotations", annotations, Annotations)
    dialect = get_dialect(prompt.dialect)
    contents = [
        _content(turn, dialect, annotations, Place(source=prompt.source, line=prompt.line, message=index))
        for index, turn in enumerate(prompt.turns)
    ]
    if prompt.plain:
        return str(contents[0])
    return [
        {"role": turn.role, **({} if content is None else {"content": content}), **turn.extra}
        for turn, content in zip(prompt.turns, contents, strict=True)
    ]


def convert(prompt: Prompt | BoundPrompt, *, to: str) -> Converted:
    """Write the same prompt in another dialect; order, count and annotations do not change.

    Markers become what the target writes: plain ones in a dialect without numbers, numbers in one that has no names.
    A prompt with named images is bound first, so that their numbers are known; prompts are then written by `render`.

    Several images get "Image-k: " before them in InternVL's dialect.

    Raises MarkerError when a name has no number.

    >>> from triptych_parser import parse
    >>> render(convert(parse("Before <image>, after <image>"), to="phi").prompt)
    'Before <|image_1|>, after <|image_2|>'
    >>> render(convert(parse("What is <image>?"), to="openai").prompt)[0]["content"]
    [{'type': 'text', 'text': 'What is '}, {'type': 'image_url'}, {'type': 'text', 'text': '?'}]
    """
    bound = prompt if isinstance(prompt, BoundPrompt) else None
    plain = prompt.prompt if isinstance(prompt, BoundPrompt) else prompt
    target = get_dialect(to)
    order = bound.image_order if bound else _order(plain)
    if to == plain.dialect:
        return Converted(prompt=plain, image_order=order)
    images = iter(order)
    style = _ref_style(plain, target)
    turns = []
    for turn in plain.turns:
        segments = tuple(
            _translate(segment, target, next(images), style) if isinstance(segment, ImageMarker) else segment
            for segment in turn.segments
        )
        turns.append(_shape(replace(turn, segments=segments), target))
    if target.labelled:
        turns = _label(turns)
    whole = plain.plain and target.opener is not None
    return Converted(prompt=replace(plain, turns=tuple(turns), dialect=to, plain=whole), image_order=order)


def _order(prompt: Prompt) -> tuple[int, ...]:
    order: list[int] = []
    for marker in prompt.markers:
        if isinstance(marker.ref, str):
            raise Place(source=prompt.source, line=prompt.line).error(
                f"the image {marker.ref!r} has no number yet", remedy="convert the bound prompt: convert(bind(...))"
            )
        order.append(len(order) if marker.ref is None else marker.ref - 1)
    return tuple(order)


def _ref_style(prompt: Prompt, target: Dialect) -> Literal["order", "number", "name"]:
    """How the markers will refer to their images: a dialect without numbers has names for all of them or for none."""
    named = [isinstance(marker.ref, str) for marker in prompt.markers]
    if target.names and (all(named) or (target.numbers and any(named))):
        return "name"
    addressed = any(marker.ref is not None for marker in prompt.markers)
    return "number" if target.numbers and (addressed or not target.orders) else "order"


def _translate(
    marker: ImageMarker, target: Dialect, image: int, style: Literal["order", "number", "name"]
) -> ImageMarker:
    ref: int | str | None = None
    if style == "name" and isinstance(marker.ref, str) and (target.opener is None or is_name(marker.ref)):
        ref = marker.ref
    elif style != "order":
        ref = image + 1
    structured = None
    if target.part is not None and marker.structured is not None:
        structured = translate_part(marker.structured, target.part)
    return replace(marker, ref=ref, structured=structured)


def _shape(turn: Turn, target: Dialect) -> Turn:
    """Give a turn the content the target has: parts for dialects of parts, a string for dialects of text."""
    if turn.content == "none":
        return turn
    segments = join_texts(turn.segments)
    if target.opener is None:
        parts = tuple(replace(segment, part=index) for index, segment in enumerate(segments))
        return replace(turn, segments=parts, content="parts")
    return replace(turn, segments=tuple(replace(segment, part=None) for segment in segments), content="string")


def _label(turns: list[Turn]) -> list[Turn]:
    """Write "Image-k: " before every image of a prompt that has several, where it is not there already.

    A lone image gets its label where the text before it ends with another number's, which would be read as its label.
    """
    number = 0
    needed = False
    labelled = []
    for turn in turns:
        segments: list[Segment] = []
        for segment in turn.segments:
            if isinstance(segment, ImageMarker):
                number += 1
                before = segments[-1] if segments else None
                label = read_label(before.text) if isinstance(before, Text) else None
                needed = needed or number > 1 or label not in (None, number)
                if label != number:
                    segments.append(Text(text=LABEL.format(number)))
            segments.append(segment)
        labelled.append(replace(turn, segments=tuple(join_texts(segments))))
    return labelled if needed else turns


def _content(turn: Turn, dialect: Dialect, annotations: Annotations, place: Place) -> str | list[dict[str, Any]] | None:
    if turn.content == "none":
        return None
    if turn.content == "string":
        return _write_text(turn.segments, dialect, annotations, place)
    parts: list[dict[str, Any]] = []
    for _, group in groupby(enumerate(turn.segments), key=lambda item: _part_key(item[0], item[1], dialect)):
        segments = [segment for _, segment in group]
        first = segments[0]
        if isinstance(first, ImageMarker) and _is_part(first, dialect):
            _check_annotation(first, dialect, annotations, place)
            if annotations == "text" and first.annotation is not None and not dialect.annotations:
                parts.append({"type": "text", "text": f"{first.annotation}: "})
            parts.append(write_part(first, dialect))
        else:
            parts.append({"type": "text", "text": _write_text(segments, dialect, annotations, place)})
    return parts


def _is_part(marker: ImageMarker, dialect: Dialect) -> bool:
    return marker.structured is not None or dialect.opener is None


def _part_key(index: int, segment: Segment, dialect: Dialect) -> tuple[int, int]:
    own = isinstance(segment, ImageMarker) and _is_part(segment, dialect)
    return (-1 if segment.part is None else segment.part, index if own else -1)


def _write_text(segments: Sequence[Segment], dialect: Dialect, annotations: Annotations, place: Place) -> str:
    pieces: list[Segment] = []
    for segment in segments:
        if isinstance(segment, ImageMarker) and segment.annotation is not None and not dialect.annotations:
            _check_annotation(segment, dialect, annotations, place)
            if annotations == "text":
                pieces.append(Text(text=f"{segment.annotation}: "))
        pieces.append(segment)
    joined = join_texts(pieces)
    out: list[str] = []
    for index, segment in enumerate(joined, start=1):
        if isinstance(segment, ImageMarker):
            _check_writable(segment, dialect, place)
            out.append(dialect.write(segment.ref, segment.annotation))
        elif dialect.opener is None or dialect.matcher is None:
            out.append(segment.text)
        else:
            out.append(
                escape(segment.text, opener=dialect.opener, matcher=dialect.matcher, before_marker=index < len(joined))
            )
    return "".join(out)


def _check_annotation(marker: ImageMarker, dialect: Dialect, annotations: Annotations, place: Place) -> None:
    if marker.annotation is not None and annotations == "error" and not dialect.annotations:
        raise place.error(
            f"the dialect {dialect.name!r} has no place for an annotation",
            got=repr(marker.annotation),
            remedy="pass annotations='text' or 'aside'",
        )


def _check_writable(marker: ImageMarker, dialect: Dialect, place: Place) -> None:
    if dialect.opener is None:
        raise place.error(
            f"the dialect {dialect.name!r} has images as content parts, not in a string",
            remedy="use convert(...) first",
        )
    able = {int: dialect.numbers, str: dialect.names, type(None): dialect.orders}[type(marker.ref)]
    if not able:
        raise place.error(
            f"the dialect {dialect.name!r} cannot refer to an image as {marker.ref!r}", remedy="use convert(...) first"
        )
    if isinstance(marker.ref, str) and not is_name(marker.ref):
        raise place.error(
            "a marker in text cannot have this name",
            got=repr(marker.ref),
            remedy="choose a name that is not a number and has no space at either end, or use convert(bind(...))",
        )
