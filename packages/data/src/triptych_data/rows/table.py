"""Tables of the `datasets` library: random access, images left encoded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triptych_data.errors import DataError
from triptych_data.rows.base import Row, file_fingerprint
from triptych_data.rows.parquet import check_expansion


class TableRows:
    """The rows of a `datasets.Dataset`, numbered from 1; its Image columns give bytes or paths, never decoded."""

    def __init__(
        self, dataset: Any, *, file: str | None = None, folder: Path | None = None, fingerprint: str | None = None
    ) -> None:
        import datasets

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
        self._fingerprint = fingerprint or dataset._fingerprint
        self._dataset = dataset.with_format(None)
        features = undecoded(dataset.features, datasets)
        if features != dataset.features:
            self._dataset = self._dataset.cast(datasets.Features(features))

    def __len__(self) -> int:
        return len(self._dataset)

    def row(self, index: int, /) -> Row:
        """Row `index` from 0."""
        values = self._dataset[index]
        return Row(values=values, file=self.file, source=self.source(index), index=index, folder=self._folder)

    def source(self, index: int, /) -> str:
        """The place of row `index` as "name:number", counted from 1."""
        return f"{self.file}:{index + 1}"

    def fingerprint(self) -> str:
        """The file's digest, or the dataset's own digest of its history."""
        return str(self._fingerprint)


def _name_in_memory(dataset: Any) -> str:
    """A name that another dataset with other rows does not have: its own name, split and digest."""
    split = f":{dataset.split}" if dataset.split else ""
    return f"{dataset.info.dataset_name or 'dataset'}{split}@{str(dataset._fingerprint)[:12]}"


def undecoded(feature: Any, datasets: Any) -> Any:
    """The same features with every image, video and sound, however deep, left encoded."""
    for kind in (datasets.Image, datasets.Video, datasets.Audio):
        if isinstance(feature, kind):
            return kind(decode=False)
    if isinstance(feature, Mapping):
        return {name: undecoded(inner, datasets) for name, inner in feature.items()}
    if isinstance(feature, list):
        return [undecoded(inner, datasets) for inner in feature]
    if isinstance(feature, datasets.List):
        return datasets.List(undecoded(feature.feature, datasets), length=feature.length)
    return feature


def read_parquet(path: Path) -> TableRows:
    """The rows of a parquet file, through the `datasets` cache."""
    import datasets

    try:
        check_expansion(path)
        table = datasets.Dataset.from_parquet(str(path))
    except DataError:
        raise
    except Exception as error:  # pyarrow and datasets each have their own
        reason = f"not a readable parquet file ({' '.join(str(error).split())})"
        raise DataError(reason, source=str(path), remedy="write the file again", kind="corrupt") from error
    return TableRows(table, file=str(path), folder=path.parent, fingerprint=file_fingerprint(path))


def load_table(name: str, *, split: str) -> TableRows:
    """A dataset saved with `save_to_disk`, a local dataset folder, or one on the hub."""
    import datasets

    folder = Path(name)
    saved = (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()
    for file in folder.rglob("*.parquet") if folder.is_dir() else ():
        check_expansion(file)
    try:
        table = datasets.load_from_disk(name) if saved else datasets.load_dataset(name, split=split)
        if isinstance(table, datasets.DatasetDict):
            table = table[split]
    except Exception as error:  # a missing folder, split, network or permission: each library has its own kind
        reason = f"cannot be loaded as a dataset with split {split!r} ({' '.join(str(error).split())})"
        raise DataError(reason, source=name, remedy="correct the path or the split", kind="missing") from error
    return TableRows(table, file=f"{name}:{split}", folder=folder if folder.is_dir() else None)
