"""The same rows for TRL's own GRPOTrainer, each image decoded once however often a row is repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triptych_data.example import Example
from triptych_data.images import ImageLoader


def as_trl_dataset(examples: Sequence[Example], *, images: ImageLoader) -> Any:
    """A `datasets.Dataset` with `prompt`, `images`, `answer` and the extra columns, read through `images`.

    TRL repeats every row G times and more; the loader hands out what it has decoded. An image that stands at several
    markers is given once per marker, which is what TRL expects. Rows are made when they are asked for: keep the loader
    open, and leave `dataloader_num_workers` at 0, since its threads do not cross into other processes.
    """
    import datasets

    rows = datasets.Dataset.from_dict({"row": list(range(len(examples)))})

    def read(batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        found = [_row(examples[index], images) for index in batch["row"]]
        columns = dict.fromkeys(name for row in found for name in row)
        return {name: [row.get(name) for row in found] for name in columns}

    return rows.with_transform(read)


def _row(example: Example, images: ImageLoader) -> dict[str, Any]:
    pictures = images.get(example)
    return {
        **example.extras,
        "id": example.id,
        "answer": example.answer,
        "prompt": example.prompt.messages(),
        "images": [pictures[index] for index in example.prompt.image_order],
    }
