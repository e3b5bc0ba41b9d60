"""What the names of shards say: whether a set of them is whole, and which files of a folder would not be read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from triptych_data.errors import DataError

_SHARD = re.compile(r"(?P<name>.*?)[-_.](?P<number>\d+)-of-(?P<count>\d+)(?P<ending>\D.*)?")
_ROWS = re.compile(r"\.(jsonl|ndjson|parquet|arrow|tar)(\.(gz|bz2|xz|zst|zip))?$", re.IGNORECASE)
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_SPLIT = re.compile(rf"(?:^|[-_. ])({'|'.join(_SPLITS)})(?=[-_. 0-9])", re.IGNORECASE)


def check_whole_sets(paths: Iterable[str | Path]) -> None:
    """Raise DataError if shards `name-00000-of-00002.parquet` are only a part of their set, or of sets of two sizes.

    A shard that a pattern left out is no fault as long as it exists. Numbers begin with 0 or with 1.
    """
    sets: dict[tuple[str, str, str], dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    widths: dict[tuple[str, str, str], tuple[int, int]] = {}
    for path in map(str, paths):
        folder, slash, file = path.rpartition("/")
        found = _SHARD.fullmatch(file)
        if found is not None:
            kind = (folder + slash, found["name"] + file[found.end("name")], found["ending"] or "")
            sets[kind][int(found["count"])].add(int(found["number"]))
            widths[kind] = (len(found["number"]), len(found["count"]))
    for (folder, name, ending), counts in sets.items():
        place = f"{folder}{name}*{ending}"
        wide, of = widths[folder, name, ending]
        if len(counts) > 1:
            said = " and ".join(f"{len(numbers)} of {count}" for count, numbers in sorted(counts.items()))
            raise DataError(
                f"expected one set of shards, got {said}",
                source=place,
                remedy=f"name one set by a pattern (*-of-{max(counts):0{of}}{ending}), or remove the other files",
                kind="format",
            )
        (count, numbers), *_ = counts.items()
        first = 0 if 0 in numbers or count not in numbers else 1
        absent = [f"{name}{number:0{wide}}-of-{count:0{of}}{ending}" for number in range(first, first + count)]
        absent = [file for k, file in enumerate(absent, first) if k not in numbers and not Path(folder, file).exists()]
        if absent:
            more = f" and {len(absent) - 1} more are" if len(absent) > 1 else " is"
            raise DataError(
                f"expected {count} shards, got {len(numbers)}: {absent[0]}{more} missing",
                source=place,
                remedy="copy it there, or name the files that you mean one by one",
                kind="missing",
            )


def check_read_whole(folder: Path, read: Sequence[Path]) -> None:
    """Raise DataError if a folder contains files of rows that are not among those to `read`, or files of two splits."""
    left = [path for path in sorted(folder.iterdir()) if path not in read and path.is_file() and _has_rows(path)]
    if left:
        raise DataError(
            f"expected a folder of JSONL or tar shards only, got {left[0].name} next to {read[0].name}, which would "
            "not be read",
            source=str(folder),
            remedy=f"move it, or name the files that you mean by a pattern ({folder}/*{read[0].suffix})",
            kind="format",
        )
    splits = {_SPLITS[found[1].lower()]: path for path in read if (found := _SPLIT.search(path.name))}
    if len(splits) > 1:
        first, second = list(splits.values())[:2]
        raise DataError(
            f"expected the rows of one split, got {first.name} and {second.name}",
            source=str(folder),
            remedy=f"name the files that you mean: {splits.get('train', first)}, or all of them by a pattern "
            f"({folder}/*{first.suffix})",
            kind="format",
        )


def _has_rows(path: Path) -> bool:
    """Whether a file is one of rows by its name, or as a JSON file by its beginning; other JSON describes data."""
    if path.suffix.lower() == ".json":
        with path.open("rb") as stream:
            return re.match(rb"(\xef\xbb\xbf)?\s*\[\s*\{", stream.read(256)) is not None
    return _ROWS.search(path.name) is not None
