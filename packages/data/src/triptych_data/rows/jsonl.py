"""JSON lines and JSON arrays: an index of offsets, and one row parsed at a time."""

from __future__ import annotations

import json
import math
import os
import re
import weakref
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from triptych_data.errors import DataError
from triptych_data.rows.base import SourceRow
from triptych_data.rows.fingerprint import file_fingerprint
from triptych_data.rows.json_column import column_of

_BLOCK = 1 << 20
_BOM = b"\xef\xbb\xbf"
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
MOST_LEVELS = 100
"""Of lists and objects in one another: far more than any row has, and far fewer than Python recurses into."""
_TOO_LONG = "expected numbers of at most 4,300 digits, got a longer one"


class JsonlRows:
    """Contains the lines of a file; blank lines are no rows. Only 16 bytes per row stay in memory."""

    def __init__(self, path: Path) -> None:
        self.path, self._folder = path, path.parent
        self.file = str(path)
        self.files = (path,)
        self._offsets, self._lines, self._end = _index_lines(path)
        self._opened: int | None = None

    def __len__(self) -> int:
        return len(self._offsets)

    def row(self, index: int, /) -> SourceRow:
        """Return row `index`, counted from 0; DataError names its line."""
        line = self.line(index)
        is_last = index + 1 == len(self._offsets) and not line.endswith(b"\n")
        source = self.source(index)
        values = parse_row(line, source=source, unfinished=is_last)
        return SourceRow(values=values, file=self.file, source=source, index=index, folder=self._folder)

    def line(self, index: int, /) -> bytes:
        """Return row `index` byte for byte as the file contains it, and what follows up to the next row."""
        start = self._offsets[index]
        stop = self._offsets[index + 1] if index + 1 < len(self._offsets) else self._end
        return os.pread(self._descriptor(), stop - start, start)

    def source(self, index: int, /) -> str:
        """Return the place of row `index` as "file:line"."""
        return f"{self.file}:{self._lines[index]}"

    def __iter__(self) -> Iterator[SourceRow]:
        return (self.row(index) for index in range(len(self)))

    def fingerprint(self) -> str:
        """Return a digest of the file."""
        return file_fingerprint(self.path)

    def _descriptor(self) -> int:
        """The open file; reads name their offset, so threads and forks may share it."""
        if self._opened is None:
            opened = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            weakref.finalize(self, os.close, opened)  # of two threads that come first, each closes its own
            self._opened = opened
            return opened
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def _index_lines(path: Path) -> tuple[array[int], array[int], int]:
    """(start of each row, its line number, end of the file); only "\\n" ends a line."""
    offsets, numbers = array("q"), array("q")
    position, number = 0, 0
    with path.open("rb") as stream:
        for line in stream:
            number += 1
            if line.strip(b" \t\r\n\xef\xbb\xbf"):
                offsets.append(position)
                numbers.append(number)
            position += len(line)
    return offsets, numbers, position


def parse_row(text: bytes, *, source: str, unfinished: bool = False) -> dict[str, Any]:
    """Parse one JSON object; raise DataError if the line is not an object, or names a key twice."""
    try:
        values = _ROW.decode(text.removeprefix(_BOM).decode())
    except UnicodeDecodeError as error:
        raise DataError(
            f"expected UTF-8, got byte 0x{error.object[error.start]:02x} at column "
            f"{len(error.object[: error.start].decode()) + 1}{_encoding_hint(text)}",
            source=source,
            remedy="convert the file to UTF-8",
            kind="json",
        ) from error
    except _DuplicateKeyError as error:
        raise DataError(
            f"key {error.args[0]!r} appears twice", source=source, remedy="remove one of them", kind="json"
        ) from error
    except _InfiniteError as error:
        raise DataError(
            f"expected numbers up to 1.8e308, got {error.args[0][:20]}",
            source=source,
            remedy="write it as text, in quotes",
            kind="json",
        ) from error
    except json.JSONDecodeError as error:
        hint = "; it is the last line, the file may still be copying" if unfinished else ""
        raise DataError(
            f"not valid JSON, {error.msg[:1].lower()}{error.msg[1:]} at column {column_of(error)}{hint}",
            source=source,
            remedy="correct or remove the line",
            kind="json",
        ) from error
    except RecursionError as error:
        raise _too_deep(source) from error
    except ValueError as error:  # the one that json does not name: a number beyond Python's limit of digits
        raise DataError(_TOO_LONG, source=source, remedy="write it as text, in quotes", kind="json") from error
    if text.count(b"[") + text.count(b"{") > MOST_LEVELS and _is_too_deep(values):
        raise _too_deep(source)
    if _ESCAPED_SURROGATE.search(text) and _has_surrogate(values):
        raise DataError(
            "expected whole characters, got half of one (an escape from \\ud800 to \\udfff without its other half)",
            source=source,
            remedy="write the whole character, or remove the escape",
            kind="json",
        )
    if not isinstance(values, dict):
        raise DataError(
            f"expected a JSON object, got {_json_name(values)}",
            source=source,
            remedy="write one object per line",
            kind="json",
        )
    return values


def _is_too_deep(value: Any) -> bool:
    """Whether lists or objects are nested in more levels than what reads a row may enter."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MOST_LEVELS):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _too_deep(source: str) -> DataError:
    return DataError(
        f"expected lists and objects nested in at most {MOST_LEVELS} levels, got more",
        source=source,
        remedy="correct or remove the line",
        kind="json",
    )


class _DuplicateKeyError(ValueError):
    pass


class _InfiniteError(ValueError):
    pass


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        raise _DuplicateKeyError(next(name for name, _ in pairs if name in seen or seen.add(name)))  # type: ignore[func-returns-value]
    return values


def _finite(number: str) -> float:
    """Refuse a number that no float can be, which Python reads as infinity."""
    if math.isinf(value := float(number)):
        raise _InfiniteError(number)
    return value


# `json.loads` makes another for every row.
_ROW = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_float=_finite)


def _has_surrogate(value: Any) -> bool:
    """Whether a text in the value, however deep, contains half of a character, which no file or tokenizer takes."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _encoding_hint(text: bytes) -> str:
    return " (this looks like UTF-16)" if text.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in text[:8] else ""


def _json_name(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


class JsonArrayRows:
    """Contains the objects of one JSON array; the text stays in memory, and rows are parsed on demand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = str(path)
        self.files = (path,)
        try:
            self._text = path.read_bytes().removeprefix(_BOM).decode()
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            source = f"{path}:{line}"
            raise DataError(
                "expected UTF-8, got other bytes", source=source, remedy="convert the file to UTF-8", kind="json"
            ) from error
        self._spans = array("q")
        self._index()

    def __len__(self) -> int:
        return len(self._spans) // 2

    def row(self, index: int, /) -> SourceRow:
        """Return object `index`, counted from 0; DataError names it."""
        source = self.source(index)
        values = parse_row(self.line(index), source=source)
        return SourceRow(values=values, file=self.file, source=source, index=index, folder=self.path.parent)

    def line(self, index: int, /) -> bytes:
        """Return object `index` byte for byte as the file contains it; it may go over several lines."""
        return self._text[self._spans[2 * index] : self._spans[2 * index + 1]].encode()

    def source(self, index: int, /) -> str:
        """Return the place of element `index` as "file[index]"."""
        return f"{self.file}[{index}]"

    def __iter__(self) -> Iterator[SourceRow]:
        return (self.row(index) for index in range(len(self)))

    def fingerprint(self) -> str:
        """Return a digest of the file."""
        return file_fingerprint(self.path)

    def _index(self) -> None:
        text, decoder = self._text, json.JSONDecoder()
        position = _skip_space(text, 0)
        if text[position : position + 1] != "[":
            raise self._broken("expected a JSON array", position)
        position = _skip_space(text, position + 1)
        while text[position : position + 1] != "]":
            try:
                _, stop = decoder.raw_decode(text, position)
            except json.JSONDecodeError as error:
                raise self._broken(f"not valid JSON, {error.msg[:1].lower()}{error.msg[1:]}", error.pos) from error
            except RecursionError as error:
                raise self._broken("nested too deeply", position) from error
            except ValueError as error:
                raise DataError(
                    _TOO_LONG, source=self.source(len(self)), remedy="write it as text, in quotes", kind="json"
                ) from error
            self._spans.extend((position, stop))
            position = _skip_space(text, stop)
            if text[position : position + 1] == ",":
                position = _skip_space(text, position + 1)
                if text[position : position + 1] == "]":
                    raise self._broken("there is a comma before the closing bracket", position)
            elif text[position : position + 1] != "]":
                raise self._broken("expected a comma or the closing bracket", position)
        behind = _skip_space(text, position + 1)
        if behind < len(text):
            remedy = "give every array a file of its own, and name these files"
            raise self._broken("expected the file to end with its array, got more", behind, remedy=remedy)

    def _broken(self, reason: str, position: int, *, remedy: str = "correct the file") -> DataError:
        line = self._text.count("\n", 0, position) + 1
        column = position - self._text.rfind("\n", 0, position)
        return DataError(f"{reason} at column {column}", source=f"{self.file}:{line}", remedy=remedy, kind="json")


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position
