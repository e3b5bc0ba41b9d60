"""Give every marker of a prompt its image, or say exactly which one has none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

from triptych_parser.choices import check_choice
from triptych_parser.errors import MarkerError
from triptych_parser.place import Place, place_in
from triptych_parser.prompt import ImageMarker, Prompt, Text, Turn

__all__ = ["BoundPrompt", "bind"]

NoMarkers = Literal["error", "first"]
UnusedImages = Literal["error", "allow"]
ANNOTATION_TEMPLATE = "{annotation}: "


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundPrompt:
    """Contains a prompt whose every marker knows its image.

    >>> from triptych_parser import parse
    >>> bound = bind(parse("<image:2> or <image:1>?"), 2)
    >>> bound.image_order
    (1, 0)
    """

    prompt: Prompt
    image_order: tuple[int, ...]
    """For each marker in reading order, the 0-based index of its image."""
    names: tuple[str | None, ...]
    """The name of each image of the sample, None for those without; its length is the number of images."""
    annotation_template: str | None = ANNOTATION_TEMPLATE
    """How an annotation is written into the text around its image; None keeps annotations out of the text."""
    label_images: bool = False
    """Whether "Image k: " is before every image, k counted from 1."""

    @property
    def num_images(self) -> int:
        """How many images the sample has.

        >>> from triptych_parser import parse
        >>> bind(parse("<image>, again <image>"), 2).num_images
        2
        """
        return len(self.names)

    @property
    def annotations(self) -> tuple[str | None, ...]:
        """For each marker in reading order, its annotation.

        >>> from triptych_parser import parse
        >>> bind(parse("<image|left> <image>"), 2).annotations
        ('left', None)
        """
        return tuple(marker.annotation for marker in self.prompt.markers)

    def messages(self) -> list[dict[str, Any]]:
        """Return conversational messages with content parts; image k of `image_order` belongs to the k-th image part.

        Neighbouring texts are joined, an empty text stays one part, and turns without content stay without.

        >>> from triptych_parser import parse
        >>> bind(parse("See <image>!"), 1).messages()[0]["content"]
        [{'type': 'text', 'text': 'See '}, {'type': 'image'}, {'type': 'text', 'text': '!'}]
        """
        messages: list[dict[str, Any]] = []
        for turn, pieces in zip(self.prompt.turns, self.pieces(), strict=True):
            message: dict[str, Any] = {"role": turn.role, **turn.extra}
            if turn.content != "none":
                said = pieces or ([""] if turn.content == "string" or turn.segments else [])
                message["content"] = [
                    {"type": "text", "text": piece} if isinstance(piece, str) else {"type": "image"} for piece in said
                ]
            messages.append(message)
        return messages

    def pieces(self) -> list[list[str | int]]:
        """Return for each turn what the model reads: texts (with labels and annotations written in) and indexes of
        images.

        >>> from triptych_parser import parse
        >>> bind(parse("See <image|a cat>"), 1, label_images=True).pieces()
        [['See Image 1: a cat: ', 0]]
        """
        images = iter(self.image_order)
        return [_join(self._pieces_of(turn, images)) for turn in self.prompt.turns]

    def shown(self) -> list[list[str | int]]:
        """Return the pieces of each turn for people, with the calls of the assistant's messages as text behind them.

        >>> from triptych_parser import parse
        >>> call = {"function": {"name": "look", "arguments": {"at": "cup"}}}
        >>> bind(parse([{"role": "assistant", "content": "Wait.", "tool_calls": [call]}]), 0).shown()
        [['Wait.', '\\n[call of look({"at": "cup"})]']]
        """
        turns = zip(self.prompt.turns, self.pieces(), strict=True)
        return [[*pieces, *map(_shown_call, turn.extra.get("tool_calls") or ())] for turn, pieces in turns]

    def _pieces_of(self, turn: Turn, images: Iterator[int]) -> Iterator[str | int]:
        for segment in turn.segments:
            if isinstance(segment, Text):
                yield segment.text
                continue
            image = next(images)
            before, after = self._around(segment, image)
            yield before
            yield image
            yield after

    def _around(self, marker: ImageMarker, image: int) -> tuple[str, str]:
        label = f"Image {image + 1}: " if self.label_images else ""
        if marker.annotation is None or self.annotation_template is None:
            return label, ""
        before, _, after = self.annotation_template.partition("{image}")
        return label + before.replace("{annotation}", marker.annotation), after.replace(
            "{annotation}", marker.annotation
        )


def bind(
    prompt: Prompt,
    images: int | Sequence[str | None],
    *,
    no_markers: NoMarkers = "error",
    unused_images: UnusedImages = "error",
    annotation_template: str | None = ANNOTATION_TEMPLATE,
    label_images: bool = False,
) -> BoundPrompt:
    """Match the markers of a prompt with the images of its sample.

    `images` is their number, or one name (or None) for each. Plain markers take the images in order and must use each
    exactly once; numbered and named ones may repeat an image. `no_markers="first"` puts all images, in order, before
    the first user turn of a prompt that has no marker at all. `annotation_template` writes annotations into the text
    ("{annotation}" and, to write on both sides, "{image}"); None keeps them aside.

    Raises MarkerError when a marker has no image, an image has no marker, or a name is unknown.

    >>> from triptych_parser import parse
    >>> bind(parse("Compare <image> with <image>"), 3)
    Traceback (most recent call last):
    ...
    triptych_parser.errors.MarkerError: image 3 has no marker (expected 3 markers, got 2); add <image> where it ...
    >>> bind(parse("Compare <image:a> with <image:c>"), ["a", "b"])
    Traceback (most recent call last):
    ...
    triptych_parser.errors.MarkerError: line 1: column 24, <image:c>: no image has this name (expected one of 'a', ...
    """
    check_choice("no_markers", no_markers, NoMarkers)
    check_choice("unused_images", unused_images, UnusedImages)
    names = _names(images, prompt)
    if names and no_markers == "first" and not prompt.num_markers:
        prompt = _images_first(prompt, len(names))
    order = tuple(_resolve(prompt, names))
    if unused_images == "error":
        _check_unused(prompt, names, order)
    return BoundPrompt(
        prompt=prompt,
        image_order=order,
        names=names,
        annotation_template=annotation_template,
        label_images=label_images,
    )


def _names(images: int | Sequence[str | None], prompt: Prompt) -> tuple[str | None, ...]:
    if isinstance(images, str):
        raise TypeError(f"expected images as their number or as a list of names, got the string {images!r}")
    names = (None,) * images if isinstance(images, int) else tuple(images)
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if name is None:
            continue
        if name in seen:
            raise Place(source=prompt.source, line=prompt.line).error(
                f"images {seen[name] + 1} and {index + 1} are both named {name!r}",
                remedy="give every image its own name",
            )
        seen[name] = index
    return names


def _images_first(prompt: Prompt, count: int) -> Prompt:
    """Put `count` markers before the text of the first user turn (of the first turn when no user speaks)."""
    at = next((index for index, turn in enumerate(prompt.turns) if turn.role == "user"), 0)
    if not prompt.turns:
        return prompt
    turn = prompt.turns[at]
    part = 0 if turn.content == "parts" else None
    markers = tuple(ImageMarker(part=part) for _ in range(count))
    content = "string" if turn.content == "none" else turn.content
    turn = replace(turn, segments=markers + turn.segments, content=content)
    return replace(prompt, turns=(*prompt.turns[:at], turn, *prompt.turns[at + 1 :]))


def _resolve(prompt: Prompt, names: tuple[str | None, ...]) -> Iterator[int]:
    by_name = {name: index for index, name in enumerate(names) if name is not None}
    ordered = 0
    for index, turn in enumerate(prompt.turns):
        for marker in turn.segments:
            if isinstance(marker, Text):
                continue
            if marker.ref is None:
                ordered += 1
                if ordered > len(names):
                    raise _missing(prompt, marker, place_in(prompt, index), ordered, len(names))
                yield ordered - 1
            elif isinstance(marker.ref, int):
                if marker.ref > len(names):
                    raise place_in(prompt, index).error(
                        f"there is no image {marker.ref}",
                        marker=marker,
                        expected=f"at least {marker.ref} images",
                        got=len(names),
                        remedy="add the image to the record or correct the number",
                    )
                yield marker.ref - 1
            else:
                if marker.ref not in by_name:
                    raise _unknown_name(marker, place_in(prompt, index), by_name)
                yield by_name[marker.ref]


def _missing(prompt: Prompt, marker: ImageMarker, place: Place, number: int, got: int) -> MarkerError:
    return place.error(
        f"marker {number} has no image",
        marker=marker,
        expected=f"{prompt.num_markers} images",
        got=got,
        remedy="add the missing image to the record, or take the image part out of the message"
        if marker.structured is not None
        else "add the missing image to the record, or write a backslash before the marker for the literal text",
    )


def _unknown_name(marker: ImageMarker, place: Place, by_name: dict[str, int]) -> MarkerError:
    known = ", ".join(repr(name) for name in by_name)
    return place.error(
        "no image has this name",
        marker=marker,
        expected=f"one of {known}" if known else "named images",
        got=repr(marker.ref) if known else "images without names",
        remedy='correct the name, or give the image this name in the record: {"name": ..., "image": ...}',
    )


def _check_unused(prompt: Prompt, names: tuple[str | None, ...], order: tuple[int, ...]) -> None:
    used = set(order)
    if len(used) == len(names):  # every number of an image is below their count
        return
    unused = sorted(set(range(len(names))) - used)
    which = ", ".join(f"{index + 1}" + (f" ({names[index]!r})" if names[index] else "") for index in unused[:5])
    addressed = any(marker.ref is not None for marker in prompt.markers)
    has_parts = prompt.dialect in ("parts", "openai") or any(marker.structured is not None for marker in prompt.markers)
    written = 'a part {"type": "image"}' if has_parts else "<image>"
    raise Place(source=prompt.source, line=prompt.line).error(
        f"image{'s' if len(unused) > 1 else ''} {which}{', ...' if len(unused) > 5 else ''} "
        f"{'have' if len(unused) > 1 else 'has'} no marker",
        expected="a marker for every image" if addressed else f"{len(names)} markers",
        got=f"{len(unused)} images without" if addressed else prompt.num_markers,
        remedy=f"add {written} where it belongs, or take the image out of the record"
        if prompt.num_markers
        else f"add {written} where each belongs: at the start of the text for images that come first (in Python, "
        "no_markers='first' does so)",
    )


def _join(pieces: Iterator[str | int]) -> list[str | int]:
    """Neighbouring texts become one; empty texts go."""
    joined: list[str | int] = []
    for is_text, group in groupby(pieces, key=lambda piece: isinstance(piece, str)):
        if is_text:
            joined += filter(None, ["".join(map(str, group))])
        else:
            joined += group
    return joined


def _shown_call(call: Any) -> str:
    inner = call.get("function") or call if isinstance(call, Mapping) else {}
    arguments = inner.get("arguments")
    written = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False, default=str)
    return f"\n[call of {inner.get('name')}({written})]"
