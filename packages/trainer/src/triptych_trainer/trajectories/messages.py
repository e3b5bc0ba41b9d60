"""Turns as values of the parser, so that the code that writes prompts also writes their tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image
from triptych_data import Example, ImageSource
from triptych_parser import BoundPrompt, ImageMarker, Prompt, Text, Turn

from triptych_trainer.errors import UsageError
from triptych_trainer.trajectories.calls import CALL_CLOSE, CALL_OPEN
from triptych_trainer.trajectories.results import Piece

__all__ = ["ToolsIn", "bound", "turn_of", "with_observation", "with_tools"]

RESPONSE_OPEN, RESPONSE_CLOSE = "<tool_response>", "</tool_response>"


def turn_of(role: str, pieces: Sequence[Piece], **extra: Any) -> Turn:
    """Return a message of texts and images; markers in a text are ordinary text."""
    segments = tuple(
        Text(text=piece, part=k) if isinstance(piece, str) else ImageMarker(part=k) for k, piece in enumerate(pieces)
    )
    raw = tuple(piece if isinstance(piece, str) else "" for piece in pieces)
    return Turn(role=role, segments=segments, content="parts", extra=extra, raw=raw)


def bound(turns: Sequence[Turn]) -> BoundPrompt:
    """Return turns whose images are all different, in order."""
    prompt = Prompt(turns=tuple(turns))
    count = prompt.num_markers
    return BoundPrompt(prompt=prompt, image_order=tuple(range(count)), names=(None,) * count)


def described(schemas: Sequence[Mapping[str, Any]]) -> str:
    """Return the list of tools as text, for chat templates that do not write it."""
    lines = "\n".join(json.dumps(dict(schema), ensure_ascii=False) for schema in schemas)
    return (
        "You can call tools. Each line between <tools> and </tools> describes one of them:\n"
        f"<tools>\n{lines}\n</tools>\n"
        f'To call a tool, write {CALL_OPEN}{{"name": its name, "arguments": {{its arguments by name}}}}{CALL_CLOSE} '
        "and end your message. The next message gives you the result."
    )


def results_for_user(results: Sequence[tuple[str, Sequence[Piece]]]) -> list[Piece]:
    """Return the results of a turn's calls as pieces of a user's message."""
    pieces: list[Piece] = []
    for k, (_, result) in enumerate(results):
        pieces += [f"{'' if k == 0 else chr(10)}{RESPONSE_OPEN}\n", *result, f"\n{RESPONSE_CLOSE}"]
    return join_pieces(pieces)


def join_pieces(pieces: Sequence[Piece]) -> list[Piece]:
    """Return neighbouring texts as one."""
    found: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += piece
        else:
            found.append(piece)
    return found


ToolsIn = str
"""The message that lists the tools: ``system`` or ``user``."""


def with_tools(example: Example, schemas: Sequence[Mapping[str, Any]], *, place: ToolsIn) -> Example:
    """Return the example with the list of tools added to its system message, or before its first user message."""
    turns = example.prompt.prompt.turns
    text = described(schemas)
    first = turns[0]
    if place == "system" and first.role == "system" and first.content != "none":
        turns = (replace(first, segments=(*first.segments, Text(text=f"\n\n{text}", part=_part(first)))), *turns[1:])
    elif place == "system":
        turns = (Turn(role="system", segments=(Text(text=text),)), *turns)
    else:
        at = next((k for k, turn in enumerate(turns) if turn.role == "user"), 0)
        told = replace(turns[at], segments=(Text(text=f"{text}\n\n", part=_part(turns[at])), *turns[at].segments))
        turns = (*turns[:at], told, *turns[at + 1 :])
    prompt = replace(example.prompt.prompt, turns=turns)
    return replace(example, prompt=replace(example.prompt, prompt=prompt))


def with_observation(example: Example, pieces: Sequence[Piece]) -> Example:
    """Return the example with the texts and images of an environment's ``reset`` at the end of its last user message.

    Raises:
        UsageError: there is no user message.
    """
    bound_prompt, turns = example.prompt, example.prompt.prompt.turns
    at = next((k for k in reversed(range(len(turns))) if turns[k].role == "user"), None)
    if at is None:
        raise UsageError(
            f"{example.source}: `reset` returned an observation, but the row has no user message for it; write one "
            "into the row, or let `reset` return nothing"
        )
    part = _part(turns[at])
    segments = tuple(Text(text=p, part=part) if isinstance(p, str) else ImageMarker(part=part) for p in pieces)
    count = sum(not isinstance(piece, str) for piece in pieces)
    before = sum(isinstance(segment, ImageMarker) for turn in turns[: at + 1] for segment in turn.segments)
    content = "string" if turns[at].content == "none" else turns[at].content
    told = replace(turns[at], segments=(*turns[at].segments, *segments), content=content)
    names = (*bound_prompt.names, *[None] * count)
    own = range(len(bound_prompt.names), len(names))
    order = bound_prompt.image_order
    return replace(
        example,
        prompt=replace(
            bound_prompt,
            prompt=replace(bound_prompt.prompt, turns=(*turns[:at], told, *turns[at + 1 :])),
            image_order=(*order[:before], *own, *order[before:]),
            names=names,
        ),
        images=(*example.images, *(ImageSource(ref=p) for p in pieces if isinstance(p, Image.Image))),
    )


def _part(turn: Turn) -> int | None:
    return max((segment.part or 0 for segment in turn.segments), default=0) if turn.content == "parts" else None
