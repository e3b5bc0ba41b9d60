"""The rows as the page's script wants them: plain JSON in blocks, and the few numbers that filters and orders need."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from triptych_data.preview.blocks import Blocks
from triptych_data.preview.collecting import problems_of
from triptych_data.preview.embedding import Pictures
from triptych_data.preview.row import PreviewImage, PreviewRow, WithTools

LONGEST_TEXT, LONGEST_VALUE = 20_000, 2_000
BLOCK_CHARS = 1 << 18


@dataclass(slots=True, kw_only=True)
class Payload:
    """Contains the rows in blocks, and one entry per row in every list of the index."""

    rows: Blocks = field(default_factory=lambda: Blocks(max_chars=BLOCK_CHARS))
    problems: list[str] = field(default_factory=list)
    """Names of problems by their number in `row_problems`."""
    num_images: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    image_tokens: list[int] = field(default_factory=list)
    row_problems: list[list[int]] = field(default_factory=list)
    tools: list[list[Any]] = field(default_factory=list)
    """Lists of tools, each once: the message that contains it, and its text."""

    def add(self, row: PreviewRow, pictures: Pictures) -> None:
        """Take in the next row, whose pictures are embedded."""
        shown = row_json(row, pictures)
        if row.with_tools is not None:
            shown["tools"] = self._listed(row.with_tools)
        self.rows.add(shown)
        found = problems_of(row)
        self.problems += [name for name in found if name not in self.problems]
        self.row_problems.append([self.problems.index(name) for name in found])
        self.num_images.append(len(row.images))
        image_tokens, tokens = row.tokens or (0, 0)
        self.tokens.append(tokens)
        self.image_tokens.append(image_tokens)

    def _listed(self, tools: WithTools) -> int:
        listed = [tools.message, shortened(tools.listed)]
        if listed not in self.tools:
            self.tools.append(listed)
        return self.tools.index(listed)


def row_json(row: PreviewRow, pictures: Pictures) -> dict[str, Any]:
    """Return one row as JSON values; fields without a value are left out."""
    found: dict[str, Any] = {"id": row.id, "source": row.source}
    if row.refused is not None:
        found["error"] = str(row.refused)
    if row.trained is not None:
        found["trained"] = [shortened(text) for text in row.trained]
    if row.repeats is not None:
        found["repeats"] = row.repeats
    if row.tokens is not None:
        found["tokens"] = list(row.tokens)
    if row.example is None:
        found["values"] = fields(row.values or {})
        return found
    bound = row.example.prompt
    found["turns"] = [
        [turn.role, [shortened(piece) for piece in pieces]]
        for turn, pieces in zip(bound.prompt.turns, bound.shown(), strict=True)
    ]
    if any(bound.annotations):
        found["annotations"] = list(bound.annotations)
    found["images"] = [image_json(image, pictures) for image in row.images]
    found["answer"] = None if row.example.answer is None else shortened(row.example.answer)
    found["notes"] = list(row.notes)
    found["extras"] = fields(row.example.extras)
    return found


def image_json(image: PreviewImage, pictures: Pictures) -> dict[str, Any]:
    """Return one image of a row; sizes are [width, height]."""
    found: dict[str, Any] = {"file": str(image.source), "name": image.source.name, "picture": pictures.number(image)}
    if image.size is not None:
        found["size"] = [image.size[1], image.size[0]]
    if image.model_size is not None:
        found["model_size"] = [image.model_size[1], image.model_size[0]]
    if image.tokens is not None:
        found["tokens"] = image.tokens
    if image.notes:
        found["notes"] = list(image.notes)
    if image.error is not None:
        found["error"] = f"{image.error.reason}; {image.error.remedy}"
    return found


def shortened(piece: str | int, *, longest: int = LONGEST_TEXT) -> Any:
    """Return an index or a text as it is, a very long text as [its beginning, number of characters left out]."""
    if isinstance(piece, int) or len(piece) <= longest:
        return piece
    return [piece[:longest], len(piece) - longest]


def fields(values: Mapping[str, Any]) -> list[list[Any]]:
    """Return columns as pairs of name and text."""
    return [[str(name), shortened(_text(value), longest=LONGEST_VALUE)] for name, value in values.items()]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=_described)


def _described(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value)} bytes>"
    return str(value) if isinstance(value, PurePath) else f"<{type(value).__name__}>"


def index_json(payload: Payload, pictures: Pictures, *, limits: Sequence[int | None]) -> dict[str, Any]:
    """Return what the script needs of all rows at once; `limits` are those of prompt tokens and of image tokens."""
    return {
        "problems": payload.problems,
        "tools": payload.tools,
        "rowProblems": payload.row_problems,
        "images": payload.num_images,
        "tokens": payload.tokens,
        "imageTokens": payload.image_tokens,
        "rowStarts": payload.rows.starts,
        "pictureStarts": pictures.kept.starts,
        "limits": list(limits),
        "longest": max(payload.tokens, default=0),
    }
