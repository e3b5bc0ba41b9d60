"""The one way in which every format is read; a format says what zero markers mean, and which rows are its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triptych_data.formats.answers import read_answer, read_reply, split_answer
from triptych_data.formats.columns import CONVERSATIONS, PIXELS, SYSTEM, Columns, is_empty
from triptych_data.formats.leftover import (
    Read,
    refuse_file_name,
    refuse_marks,
    refuse_media,
    refuse_rendered,
    refuse_unread,
)
from triptych_data.formats.objects import fill, is_objects, read_objects, refuse_marks_of_objects
from triptych_data.formats.parts import check_indices, read_parts, refuse_written_parts
from triptych_data.formats.pictures import Named, as_names, read_images
from triptych_data.formats.plain_row import plain_record
from triptych_data.formats.prompts import check_answer_is_option, prompt_text, read_prompt, refuse_silence
from triptych_data.formats.record import NoMarkers, Record, RowError
from triptych_data.formats.turns import Turn, check_end, check_order, with_system
from triptych_data.formats.written import MARKER


def read_row(
    row: Mapping[str, Any], *, no_markers: NoMarkers, any_order: bool = False, needs_prompt: bool = True
) -> Record:
    """Read one row by the names of its columns and of those who speak; raise RowError if something would be left out.

    `no_markers` is what zero markers mean for the column `images`; images of other columns come first without them.
    With `any_order` a conversation may begin and end with anybody, and one turn that says something is enough;
    without `needs_prompt` none has to.
    """
    plain = plain_record(row, no_markers=no_markers)
    return _read_any(row, no_markers, any_order, needs_prompt) if plain is None else plain


def _read_any(
    row: Mapping[str, Any], no_markers: NoMarkers, any_order: bool = False, needs_prompt: bool = True
) -> Record:
    refuse_media(row)
    columns = Columns(row)
    turns, source = read_prompt(columns)
    if not any_order:
        check_order(turns, what=source)
    turns, last = split_answer(turns, what=source) if source in CONVERSATIONS else (turns, None)
    answer, reply = read_answer(columns, last), read_reply(columns, last)
    if not any_order:
        check_end(turns, what=source, answered=answer is not None, is_split=last is not None)
    turns = with_system(turns, columns.given(SYSTEM), what=source)
    turns, inline = _without_images(turns, source)
    images, names, tags = as_names(read_images(columns, inline))
    _check_answer_shows_nothing(last, turns, images, source)
    turns = _with_tags(turns, tags)
    if needs_prompt and not images:
        refuse_silence(turns, what=source, any_order=any_order)
    check_answer_is_option(row, answer)
    if not any_order:
        _check_said(turns, source)
    if is_objects(row.get("objects")):
        found = read_objects(row["objects"], num_images=len(images))
        plain, spoken = turns, reply if reply != answer else None
        turns, answer = fill(plain, answer, found, num_images=len(images))
        reply = answer if spoken is None else fill(plain, spoken, found, num_images=len(images))[1]
    else:
        refuse_marks_of_objects(turns)
    columns.given(PIXELS)
    extras = columns.unread()
    place = _place(turns, is_inline=bool(inline))
    refuse_unread(columns, read=Read(prompt=prompt_text(turns), source=source, images=images, place=place))
    return Record(
        messages=turns,
        images=images,
        names=names,
        answer=answer,
        extras=extras,
        no_markers="first" if is_empty(row.get("images")) else no_markers,
        reply=reply,
    )


def _place(turns: list[Turn], *, is_inline: bool) -> str:
    """Where a further image of the row belongs."""
    if is_inline:
        return 'into the messages as an image part, {"type": "image", "image": ...}'
    if any(part["type"] == "image" for turn in turns if isinstance(turn["content"], list) for part in turn["content"]):
        return 'into images, with an image part, {"type": "image"}, where it belongs'
    return "into images, with an <image> where it belongs"


def _check_said(turns: list[Turn], source: str) -> None:
    """RowError where the user says nothing in one of several turns; an image of a column may be the only one's."""
    users = [number for number, turn in enumerate(turns) if turn["role"] == "user"]
    for number in users if len(users) > 1 else ():
        content = turns[number]["content"]
        if not content or (isinstance(content, str) and not content.strip()):
            raise RowError(
                f"expected a text or an image from the user, got neither in {source}[{number}]",
                remedy="write what the user says there, or remove the turn",
            )


def _check_answer_shows_nothing(last: str | None, turns: list[Turn], images: Sequence[Any], source: str) -> None:
    """RowError where the last turn shows the row's images and the prompt none: they are the answer, and no input."""
    if last is None or not images or MARKER.search(last) is None or MARKER.search(prompt_text(turns)) is not None:
        return
    raise RowError(
        f"expected the images of the row in its prompt, got {MARKER.search(last)[0]} in the assistant's last turn of "  # type: ignore[index]
        f"{source} alone, and no model here writes images",
        remedy="write <image> where the user shows it, and the answer as text",
    )


def _without_images(turns: list[Turn], source: str) -> tuple[list[Turn], list[Named]]:
    """(turns whose parts contain no images, the images that were in them, in order)."""
    check_indices(turns, what=source)
    inline: list[Named] = []
    plain: list[Turn] = []
    for number, turn in enumerate(turns):
        content = turn["content"]
        if isinstance(content, (list, tuple)):
            content, found = read_parts(content, what=f"{source}[{number}].content")
            inline += found
        elif isinstance(content, str):
            refuse_marks(content, what=f"{source}[{number}]")
            refuse_rendered(content, what=f"{source}[{number}]")
            if turn["role"] in ("user", "system"):
                refuse_file_name(content, what=f"{source}[{number}]")
                refuse_written_parts(content, what=f"{source}[{number}]")
        elif content is not None:  # a turn of calls alone has none
            raise RowError(
                f"expected the content of {source}[{number}] to be text or parts, got {type(content).__name__}",
                remedy="correct the row",
            )
        plain.append({**turn, "content": content})
    return plain, inline


def _with_tags(turns: list[Turn], tags: Mapping[str, str]) -> list[Turn]:
    """The turns with a name's own tag ("<image_00>") written as a marker for that name."""
    if not tags:
        return turns
    return [
        {**turn, "content": _tagged(turn["content"], tags)} if isinstance(turn["content"], str) else turn
        for turn in turns
    ]


def _tagged(text: str, tags: Mapping[str, str]) -> str:
    for tag, marker in tags.items():
        text = text.replace(tag, marker)
    return text
