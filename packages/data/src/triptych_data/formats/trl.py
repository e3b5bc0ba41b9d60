"""TRL conversational: `prompt` as messages (text or content parts) or text, `images` or `image`, further columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych_parser import parse

from triptych_data.formats.answers import read_answer
from triptych_data.formats.columns import PIXELS, Columns, is_empty
from triptych_data.formats.leftover import refuse_rendered
from triptych_data.formats.parts import read_parts
from triptych_data.formats.prompts import refuse_silence
from triptych_data.formats.record import Record, RowError
from triptych_data.formats.shape import read_row
from triptych_data.formats.turns import ROLES, Turn, read_turns

IMAGES = ("images", "image")
"""The columns of images that TRL reads."""
SPEAKERS = ("user", "assistant", "system", "tool")
"""The roles of the messages that TRL takes."""


def matches(row: Mapping[str, Any]) -> bool:
    """Return whether the row has this shape."""
    return not is_empty(row.get("prompt"))


def read(row: Mapping[str, Any]) -> Record:
    """Read one row; zero markers mean all images first, as TRL itself places them."""
    return read_row(row, no_markers="first")


def read_script(row: Mapping[str, Any], *, needs_prompt: bool = True) -> Record:
    """Read one row of a script for TRL, which has no other columns than those of the prompt, its images and its answer.

    Where the data have no images, and in a plain text without images, the texts are only text, whatever they look like,
    as in TRL. Anybody may speak first and last, and without `needs_prompt` nobody has to say anything.
    """
    prompt = row["prompt"]
    _check_roles(prompt)
    if isinstance(prompt, str):
        turns = None if any(row.get(name) for name in IMAGES) else [{"role": "user", "content": prompt}]
        if turns is not None and not row.keys().isdisjoint(IMAGES):
            _refuse_lost_image(prompt)
    else:
        turns = None if not row.keys().isdisjoint(IMAGES) else _literal(read_turns(prompt, what="prompt"), needs_prompt)
    if turns is None:
        if any(not is_empty(row.get(name)) for name in IMAGES):
            _refuse_unclear_place(prompt)
        return read_row(row, no_markers="first", any_order=True, needs_prompt=needs_prompt)
    columns = Columns(row)
    answer = read_answer(columns, None)
    columns.given(("prompt", *IMAGES, *PIXELS))
    return Record(
        messages=turns,
        images=[],
        names=[],
        answer=answer,
        extras=columns.unread(),
        no_markers="first",
        reply=answer,
        is_literal=True,
    )


def _check_roles(prompt: Any) -> None:
    """RowError for a message of somebody whom a data file may name, and whom TRL does not know."""
    for number, turn in enumerate(prompt if isinstance(prompt, (list, tuple)) else ()):
        role = turn.get("role") if isinstance(turn, Mapping) else None
        if isinstance(role, str) and role not in SPEAKERS and role.lower() in ROLES:
            raise RowError(
                f"expected the role of prompt[{number}] to be one of {', '.join(SPEAKERS)}, got {role!r}",
                remedy=f"write {ROLES[role.lower()]}",
            )


def _refuse_lost_image(text: str) -> None:
    """RowError for a marker in a plain text without images, if other rows of the data may have some."""
    if parse(text).num_markers:
        raise RowError(
            "expected an image for the marker in prompt, got none in the row",
            remedy="give the row its image, or, for the literal text, write the prompt as a message with a backslash "
            "before the marker",
        )


def _refuse_unclear_place(prompt: Any) -> None:
    """RowError where images without a place have no turn of the user to go before, or TRL puts them before a later turn
    than the first one of the user.
    """
    if not isinstance(prompt, (list, tuple)):
        return
    turns = [turn for turn in prompt if isinstance(turn, Mapping)]
    if any(map(_has_place, turns)):
        return
    users = [turn for turn in turns if ROLES.get(str(turn.get("role") or turn.get("from"))) == "user"]
    contents = [turn.get("content") for turn in users]
    if not users:
        raise RowError(
            "expected a turn by the user, which the images go before, got none in prompt",
            remedy='add a turn by the user, or write the part {"type": "image"} for each image where it belongs',
        )
    if isinstance(contents[0], (list, tuple)) and any(isinstance(content, str) for content in contents):
        raise RowError(
            "expected the images to have a place, got a first turn of the user in parts without an image part, and a "
            "later one as text: TRL puts the images before the later one",
            remedy='write the part {"type": "image"} for each image where it belongs',
        )


def _has_place(turn: Mapping[str, Any]) -> bool:
    """Whether a message has an image part, or a marker in its text."""
    content = turn.get("content")
    if isinstance(content, str):
        return parse(content).num_markers > 0
    parts = content if isinstance(content, (list, tuple)) else ()
    return any(isinstance(part, Mapping) and part.get("type") != "text" for part in parts)


def _literal(turns: list[Turn], needs_prompt: bool) -> list[Turn] | None:
    """The turns with texts as they are; None if a part is an image."""
    said: list[Turn] = []
    for number, turn in enumerate(turns):
        content, place = turn["content"], f"prompt[{number}]"
        if isinstance(content, str):
            refuse_rendered(content, what=place)
        elif isinstance(content, (list, tuple)):
            content, _ = read_parts(content, what=f"{place}.content")
            if any(part["type"] == "image" for part in content):
                return None
        elif content is not None:
            raise RowError(
                f"expected the content of {place} to be text or parts, got {type(content).__name__}",
                remedy="correct the row",
            )
        said.append({**turn, "content": content})
    if needs_prompt:
        refuse_silence(said, what="prompt", any_order=True)
    return said
