"""A ``datasets.Dataset`` in TRL's columns as a table: ``prompt`` as messages or text, and ``image`` or ``images``."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
from PIL import ExifTags, Image, ImageOps
from triptych_data import DataError, Example
from triptych_data.formats import RowError
from triptych_data.formats.answers import read_answer
from triptych_data.formats.columns import PIXELS, Columns, is_empty
from triptych_data.orientation import ORIENTATION_NOTES
from triptych_data.read_row import row_reader
from triptych_data.rows import SourceRow
from triptych_data.rows.features import check_modes, json_reading

from triptych_trainer.errors import UsageError
from triptych_trainer.prompts.example_table import ScriptColumns, with_names

__all__ = ["DatasetTable", "open_bytes", "reopened"]

TABLES = ("arrow", "pandas", "polars")
"""The formats of ``datasets`` whose rows are no dictionaries."""
READ = ("prompt", "image", "images")
"""Columns that are read as they are stored, in whatever format a dataset gives the others."""
INPUT = {*READ, *PIXELS, "id"}
"""The columns of a row with a prompt that are read; TRL gives all others to rewards, whatever they are called."""


ENCODED = "triptych_encoded"
"""The attribute of an image under which `open_bytes` keeps what it was opened from."""


class DatasetTable:
    """Reads rows of a dataset in memory or on disk when they are asked for; images stay encoded until they are used."""

    def __init__(
        self, dataset: datasets.Dataset, *, name: str, needs_prompt: bool = True, whole_rows: bool = False
    ) -> None:
        """Read ``dataset``; ``name`` says in errors which one it is. Without ``needs_prompt`` rows may lack one. With
        ``whole_rows`` all columns are read as in a data file, because some say how the assistant replies.

        Raises:
            UsageError: it is no map-style dataset.
            DataError: an image column has a mode that changes its colours.
        """
        check_is_map_style(dataset, name=name)
        check_modes(dataset.features, datasets, source=name)
        self.name = name
        self._features = dataset.features
        kind = dataset.format["type"]
        live = kind == "custom"
        self._values: Callable[[int], Mapping[str, Any]]
        self._values = dataset.__getitem__ if live else _undecoded(dataset)
        self._formatted = None if live or kind is None else _formatted(dataset)
        self._read = row_reader(
            format="trl" if "prompt" in dataset.column_names or live else "auto",
            table=f"{name}@{dataset._fingerprint}",
            needs_prompt=needs_prompt,
            script=not whole_rows,
        )
        self._whole_rows = whole_rows
        self.is_drawn = live
        """Whether a transform makes the values of a row anew on each access."""
        self._num_rows = len(dataset)

    def __len__(self) -> int:
        return self._num_rows

    def example(self, row: int) -> Example:
        """Return the row as it is trained on; with a transform, each call draws new values and keeps them in it."""
        return self._example(row, self._values(row))

    def _example(self, row: int, drawn: Mapping[str, Any]) -> Example:
        source = f"{self.name}[{row}]"
        values = _readable(drawn, source=source)
        if not self._whole_rows and not is_empty(values.get("prompt")):
            values = {name: value for name, value in values.items() if name in INPUT} | _answer(values)
        example = self._read(SourceRow(values=values, file=self.name, source=source, index=row, folder=Path()))
        return replace(example, columns=drawn) if self.is_drawn else example

    def _values_of(self, row: int, read: Example | None) -> Mapping[str, Any]:
        """The values of a row; with a transform, those that ``read`` was made of."""
        return read.columns if self.is_drawn and read is not None else self._values(row)

    def columns(self, row: int, read: Example | None = None) -> dict[str, Any]:
        """Return the row's own columns as the dataset gives them; images are decoded when they are used."""
        values = self._values_of(row, read)
        own = {name: _opened(value, self._features.get(name)) for name, value in values.items()}
        own |= {} if self._formatted is None else self._formatted[row]
        columns = ScriptColumns(with_names(read or self._example(row, values), own))
        columns.lacking = frozenset({"answer", "solution", "images"} - own.keys())
        return columns

    def prompt(self, row: int, read: Example | None = None) -> str | list[dict[str, Any]]:
        """Return the row's own text or messages in TRL's form; messages have a part for every image, if the row has
        images.
        """
        values = self._values_of(row, read)
        own = values.get("prompt")
        if own is None or any(values.get(name) for name in ("images", "image")):
            written = self._example(row, values).prompt.messages()
            if not isinstance(own, list) or len(own) != len(written):
                return written
            return [_as_stored(*pair) for pair in zip(written, own, strict=True)]
        return own if isinstance(own, str) else [dict(message) for message in own]


def check_is_map_style(dataset: Any, *, name: str) -> None:
    """Refuse what has no row numbers.

    Raises:
        UsageError: says what to pass instead.
    """
    if isinstance(dataset, (datasets.IterableDataset, datasets.IterableDatasetDict)):
        raise UsageError(
            f"{name} is an {type(dataset).__name__}, whose rows have no numbers, but prompts, features and resumed "
            "runs identify a row by its number; read it into a datasets.Dataset, with load_dataset(..., "
            "streaming=False) or Dataset.from_generator"
        )
    if not isinstance(dataset, datasets.Dataset):
        remedy = "make a dataset of it, with datasets.Dataset.from_list or from_generator"
        if isinstance(dataset, Mapping):
            remedy = f"pass one of its parts: {', '.join(map(repr, dataset)) or 'it has none'}"
        raise UsageError(
            f"{name}: expected a datasets.Dataset or a table of examples, got {type(dataset).__name__}; {remedy}"
        )
    if dataset.format["type"] in TABLES:
        raise UsageError(
            f"{name}: expected rows that are dictionaries, got the format {dataset.format['type']}, whose rows are "
            "tables; pass the dataset with_format(None)"
        )


def _answer(values: Mapping[str, Any]) -> dict[str, str]:
    """The one answer that the columns of a row give; none if they differ, because rewards get each of them."""
    try:
        answer = read_answer(Columns(values), None)
    except RowError:
        return {}
    return {} if answer is None else {"answer": answer}


def _as_stored(written: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A message that has, as its parts have, the keys without a value that Arrow gives them, as in TRL."""
    parts, stored = written.get("content"), own.get("content")
    written = {name: None for name, value in own.items() if value is None} | written
    if not isinstance(parts, list) or not isinstance(stored, list) or len(parts) != len(stored):
        return written
    empty = [{name: None for name, value in part.items() if value is None} for part in stored]
    return {**written, "content": [{**blank, **part} for blank, part in zip(empty, parts, strict=True)]}


def _undecoded(dataset: datasets.Dataset) -> Callable[[int], Mapping[str, Any]]:
    """Rows as Arrow stores them: images as bytes or paths, and nothing is copied or decoded but JSON."""
    stored = dataset.with_format("arrow")
    read = json_reading(dataset.features, datasets) or (lambda values: values)
    return lambda index: read(stored[index].to_pylist()[0])


def _formatted(dataset: datasets.Dataset) -> datasets.Dataset:
    """The columns that rewards get as arrays or tensors, as the dataset's format says; TRL takes no such images."""
    wanted = dataset.format
    columns = [name for name in wanted["columns"] if name not in READ]
    return dataset.with_format(wanted["type"], columns=columns, **wanted["format_kwargs"])


def _readable(values: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """The values with the bytes of every image of an Image column, which the user's own code named by its path."""
    try:
        return {name: _with_bytes(value) for name, value in values.items()}
    except OSError as error:
        raise DataError(
            f"an image of the row cannot be read: {error}", source=source, remedy="correct its path"
        ) from error


def _with_bytes(value: Any) -> Any:
    if _is_encoded(value):
        unread = value["bytes"] is None and value["path"] is not None and "://" not in value["path"]
        return {**value, "bytes": Path(value["path"]).read_bytes()} if unread else value
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    return value


def _is_encoded(value: Any) -> bool:
    """Whether a value is an image as an undecoded Image column gives it."""
    return isinstance(value, Mapping) and set(value) == {"bytes", "path"}


def _opened(value: Any, feature: Any) -> Any:
    """Encoded images as PIL images, whose pixels are decoded at their first use; everything else as it is."""
    if isinstance(feature, datasets.Image) and _is_encoded(value):
        return open_bytes(_with_bytes(value)["bytes"]) if feature.decode else value
    if isinstance(feature, (datasets.List, datasets.LargeList)) and isinstance(value, list):
        return [_opened(item, feature.feature) for item in value]
    if isinstance(feature, Mapping) and isinstance(value, Mapping):
        return {name: _opened(item, feature.get(name)) for name, item in value.items()}
    return value


def open_bytes(encoded: bytes) -> Image.Image:
    """Return a PIL image whose pixels are decoded at their first use, turned as ``datasets`` turns it."""
    image = Image.open(io.BytesIO(encoded))
    may_be_turned = image.format == "TIFF" or any(
        note in image.info for note in ORIENTATION_NOTES
    )  # asking a PNG without it would decode it
    turned = may_be_turned and image.getexif().get(ExifTags.Base.Orientation) is not None
    if turned:
        return ImageOps.exif_transpose(image)
    setattr(image, ENCODED, encoded)
    return image


def reopened(image: Image.Image) -> Image.Image:
    """Return an image of its own with the same pixels; what `open_bytes` opened is opened again and not decoded."""
    encoded = getattr(image, ENCODED, None)
    return image.copy() if encoded is None else open_bytes(encoded)
