"""Where in a file and a prompt a marker is, and errors that point there."""

from __future__ import annotations

from dataclasses import dataclass

from triptych_parser.errors import MarkerError
from triptych_parser.prompt import ImageMarker, Prompt

__all__ = ["Place", "place_in"]

_MAX_EXCERPT = 100  # characters of the offending line shown on either side


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Names a message of a record: enough to say where a marker is."""

    source: str | None = None
    line: int | None = None
    raw: tuple[str, ...] = ()
    message: int | None = None

    def reading(self, raw: tuple[str, ...]) -> Place:
        """Return the same place with the texts that errors quote."""
        return Place(source=self.source, line=self.line, raw=raw, message=self.message)

    def error(
        self,
        problem: str,
        *,
        marker: ImageMarker | None = None,
        expected: object = None,
        got: object = None,
        remedy: str | None = None,
    ) -> MarkerError:
        """Build (not raise) the error, with the marker's line, column and a caret where it is in text."""
        text = self._text_of(marker)
        if marker is None or text is None:
            spot = f"message {self.message + 1}: " if self.message is not None else ""
            return MarkerError(
                spot + problem, source=self.source, line=self.line, expected=expected, got=got, remedy=remedy
            )
        written = text[marker.start : marker.end]
        first = text.rfind("\n", 0, marker.start) + 1
        line_in_prompt = text.count("\n", 0, marker.start) + 1
        column = marker.start - first + 1
        spot = f"line {line_in_prompt} of the prompt, " if line_in_prompt > 1 and self.line is not None else ""
        return MarkerError(
            f"{spot}column {column}, {written}: {problem}",
            source=self.source,
            line=self.line if self.line is not None else line_in_prompt,
            column=column,
            marker=written,
            expected=expected,
            got=got,
            remedy=remedy,
            excerpt=_excerpt(text, first, marker),
        )

    def _text_of(self, marker: ImageMarker | None) -> str | None:
        if marker is None or marker.structured is not None or marker.end <= marker.start:
            return None
        index = marker.part or 0
        return self.raw[index] if index < len(self.raw) else None


def place_in(prompt: Prompt, message: int) -> Place:
    """Return where a message of a prompt is, counted from 0."""
    return Place(source=prompt.source, line=prompt.line, raw=prompt.turns[message].raw, message=message)


def _excerpt(text: str, first: int, marker: ImageMarker) -> str:
    last = text.find("\n", marker.end)
    last = len(text) if last < 0 else last
    left = max(first, marker.start - _MAX_EXCERPT)
    right = min(last, marker.end + _MAX_EXCERPT)
    lead = "..." if left > first else ""
    tail = "..." if right < last else ""
    before = lead + text[left : marker.start].replace("\t", " ")
    shown = f"{before}{text[marker.start : right]}{tail}".replace("\n", " ")
    carets = "^" * min(marker.end - marker.start, _MAX_EXCERPT)
    return f"  {shown}\n  {' ' * len(before)}{carets}"
