"""Tables of the `datasets` library: random access, images left encoded."""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from triptych_data.errors import DataError
from triptych_data.extras import needed
from triptych_data.rows.base import SourceRow
from triptych_data.rows.features import check_modes, rewriting, undecoded
from triptych_data.rows.fingerprint import file_fingerprint
from triptych_data.rows.parquet import check_columns, check_expansion
from triptych_data.rows.shards import check_whole_sets

_NO_ROWS = "the file contains no rows"
_ROWS_DIGESTED = 100  # of Arrow's arrays of bytes, none may be longer than 2 GiB


class TableRows:
    """Contains the rows of a `datasets.Dataset`, numbered from 1; its Image columns give bytes or paths, never decoded.

    Its Arrow files are mapped into memory: a row is read from disk when it is asked for, on whichever process.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        file: str | None = None,
        folder: Path | None = None,
        shards: Sequence[tuple[Path, int]] = (),
    ) -> None:
        """`shards` are the files that the rows come from, with their numbers of rows; each numbers its own."""
        datasets = needed("datasets", extra="hub", doing="a dataset in memory")

        if isinstance(dataset, datasets.DatasetDict):
            raise DataError(
                f"expected one split, got {', '.join(dataset)}", source="dataset", remedy="pass dataset['train']"
            )
        if not isinstance(dataset, datasets.Dataset):
            raise DataError(
                f"expected a path or a datasets.Dataset, got {type(dataset).__name__}",
                source="dataset",
                remedy="load an iterable dataset with streaming=False, or pass the file's path",
            )
        if dataset.format["type"] == "custom":
            raise DataError(
                "expected a dataset without a transform that is applied on access",
                source="dataset",
                remedy="apply it with dataset.map before reading, or remove it with dataset.reset_format()",
            )
        self.file = file or _name_in_memory(dataset)
        self._folder = folder or Path()
        self._shards = tuple(shards)
        self._ends = list(itertools.accumulate(count for _, count in shards))
        self.files = tuple(path for path, _ in shards) or tuple(Path(f["filename"]) for f in dataset.cache_files)
        self._dataset = dataset.with_format(None)
        check_modes(dataset.features, datasets, source=self.file)
        self._rewritten = rewriting(dataset.features, datasets)
        features = undecoded(dataset.features, datasets)
        if features != dataset.features:
            self._dataset = self._dataset.cast(datasets.Features(features))

    def __len__(self) -> int:
        return len(self._dataset)

    def row(self, index: int, /) -> SourceRow:
        """Return row `index`, counted from 0; a class label is its name, because its number says nothing to a model."""
        values = self._dataset[index]
        if self._rewritten is not None:
            values = self._rewritten(values)
        shard = self._shard(index)
        return SourceRow(
            values=values,
            file=self.file if shard is None else str(shard[0]),
            source=self.source(index),
            index=index,
            folder=self._folder if shard is None else shard[0].parent,
        )

    def source(self, index: int, /) -> str:
        """Return the place of row `index` as "name:number", counted from 1 in its shard."""
        shard = self._shard(index)
        return f"{self.file}:{index + 1}" if shard is None else f"{shard[0]}:{shard[1] + 1}"

    def _shard(self, index: int) -> tuple[Path, int] | None:
        """(the file of a row, the row's number in it)."""
        if not self._shards:
            return None
        number = bisect.bisect_right(self._ends, index)
        path, count = self._shards[number]
        return path, index - (self._ends[number] - count)

    def fingerprint(self) -> str:
        """Return a digest of every row and of the columns' types; copies have the same."""
        found: list[object] = [file_fingerprint(path) for path, _ in self._shards]
        if not self._shards:
            found = [len(self), str(self._dataset.features), *_digests(self._dataset)]
        return hashlib.blake2b(repr(found).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _digests(dataset: Any) -> Iterator[str]:
    """A digest of every hundred rows, as they are in memory or mapped into it."""
    rows = dataset.with_format("arrow")
    for start in range(0, len(rows), _ROWS_DIGESTED):
        digest = hashlib.blake2b(digest_size=16)
        part = rows[start : start + _ROWS_DIGESTED]
        copied = part.take(list(range(len(part)))).combine_chunks()  # a slice of memory has its neighbours' bits
        for batch in copied.to_batches():
            digest.update(batch.replace_schema_metadata(None).serialize())
        yield digest.hexdigest()


def _name_in_memory(dataset: Any) -> str:
    """A name that another dataset with other rows does not have: its own name, split and digest."""
    split = f":{dataset.split}" if dataset.split else ""
    return f"{dataset.info.dataset_name or 'dataset'}{split}@{str(dataset._fingerprint)[:12]}"


def read_parquet(paths: Sequence[Path]) -> TableRows:
    """Read the rows of parquet files one after the other, through the `datasets` cache."""
    datasets = needed("datasets", extra="hub", doing=f"reading the parquet file {paths[0]}")
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    name, shards = str(paths[0]), []
    try:
        for path in paths:
            name = str(path)
            check_expansion(path)
            file = parquet.read_metadata(path)
            check_columns(file.schema.to_arrow_schema(), source=name)
            if not file.num_rows:
                raise DataError(_NO_ROWS, source=name, remedy="check that it was written", kind="empty")
            shards.append((path, file.num_rows))
        name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} to {paths[-1]}"
        with _without_bars(datasets, paths[0].parent):
            table = datasets.Dataset.from_parquet([str(path) for path in paths])
    except DataError:
        raise
    except Exception as error:  # pyarrow and datasets each have their own
        reason = f"not a readable parquet file ({_said(error)})"
        raise DataError(reason, source=name, remedy="write the file again", kind="corrupt") from error
    return TableRows(table, file=name, shards=shards)


def _said(error: Exception) -> str:
    """What an error says in one line: that of what caused it, where `datasets` only says that there was one."""
    cause = error.__cause__ or error.__context__ if type(error).__name__ == "DatasetGenerationError" else None
    return " ".join(str(cause or error).split())


def _counted(error: Exception) -> str | None:
    """What `datasets` says of splits whose numbers of rows are not those that its card states, in words."""
    if type(error).__name__ != "NonMatchingSplitsSizesError":
        return None
    numbers = re.findall(r"name='([^']*)', num_bytes=\d+, num_examples=(\d+)", str(error))
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    said = [f"{name} has {got} rows, {stated} are stated" for (name, stated), (_, got) in pairs]
    return f"its files are not those that its README.md describes: {', '.join(said)}"


def load_parquet_at(address: str) -> TableRows:
    """Read the rows of parquet files at an address that `datasets` reads through fsspec, copied once into its cache."""
    datasets = needed("datasets", extra="hub", doing=f"reading {address}")

    if not address.partition("?")[0].endswith(".parquet"):
        raise DataError(
            "expected an address of parquet files",
            source=address,
            remedy="write the rows as parquet, or copy the file here",
            kind="format",
        )
    try:
        table = datasets.load_dataset("parquet", data_files=address, split="train")
    except Exception as error:  # each file system and each library has its own
        reason = f"cannot be read ({_said(error)})"
        remedy = "correct the address, or copy the files here"
        raise DataError(reason, source=address, remedy=remedy, kind="missing") from error
    return TableRows(table, file=address)


def load_table(name: str, *, split: str | None) -> TableRows:
    """Load a dataset that was saved with `save_to_disk`, a local dataset folder, or a dataset on the hub.

    Where it has several splits and none is asked for, it is the one for training.
    """
    datasets = needed("datasets", extra="hub", doing=f"loading the dataset {name}")

    folder = Path(name)
    saved = (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()
    for file in folder.rglob("*.parquet") if folder.is_dir() else ():
        check_expansion(file)
    wanted: str | None = split or "train"
    try:
        if folder.is_dir() and not saved:
            check_whole_sets((datasets.load_dataset_builder(name).config.data_files or {}).get(wanted, ()))
        with _without_bars(datasets, folder):
            table = datasets.load_from_disk(name) if saved else datasets.load_dataset(name, split=wanted)
        if isinstance(table, datasets.DatasetDict):
            table = _split_of(table, name, asked=str(wanted))
        elif saved:
            wanted = _only_split(table, name, asked=split)
    except DataError:
        raise
    except Exception as error:  # a missing folder, split, network or permission: each library has its own kind
        reason = f"cannot be loaded as a dataset with split {wanted!r} ({_counted(error) or _said(error)})"
        remedy = "correct the path or the split (name:split), or name its files by a pattern (name/*.parquet)"
        raise DataError(reason, source=name, remedy=remedy, kind="missing") from error
    named = name if wanted is None else f"{name}:{wanted}"
    return TableRows(table, file=named, folder=folder if folder.is_dir() else None)


@contextlib.contextmanager
def _without_bars(datasets: Any, folder: Path) -> Iterator[None]:
    """Keep the progress of files that are here off the terminal; what is downloaded is shown."""
    if not folder.is_dir() or datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def _split_of(table: Any, name: str, *, asked: str) -> Any:
    """The split of a saved dataset that is asked for; DataError where it has none of this name."""
    if asked not in table:
        raise DataError(
            f"expected a saved dataset with a split {asked!r}, got one whose dataset_dict.json names "
            f"{', '.join(table) or 'none'}",
            source=name,
            remedy=f"name one of its splits ({name}:{next(iter(table))})" if table else "save the dataset again",
            kind="missing",
        )
    return table[asked]


def _only_split(table: Any, name: str, *, asked: str | None) -> str | None:
    """The split that a saved dataset is, if it knows; DataError if another one is asked for."""
    own = None if table.split is None else str(table.split)
    if asked not in (None, own):
        got = "no splits" if own is None else f"only its split {own!r}"
        raise DataError(
            f"expected a saved dataset with a split {asked!r}, got one that has {got}",
            source=name,
            remedy=f"leave out :{asked} if these are the rows that you mean",
        )
    return own
