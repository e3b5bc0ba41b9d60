"""The same rows for TRL's own GRPOTrainer, each image decoded once however often a row is repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triptych_data.errors import DataError
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
    return rows.with_transform(_Rows(examples, images))


# What TRL gives to rewards itself, or reads from a row for itself.
_TRL_COLUMNS = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments")


class _Rows:
    """Makes the rows of a batch from the numbers of their examples."""

    def __init__(self, examples: Sequence[Example], images: ImageLoader) -> None:
        self.examples, self.images = examples, images

    def __call__(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        found = [_row(self.examples[index], self.images) for index in batch["row"]]
        columns = dict.fromkeys(name for row in found for name in row)
        return {name: [row.get(name) for row in found] for name in columns}

    def __getstate__(self) -> dict[str, Any]:
        """Only what tells one from another: `datasets` hashes the transform that it is given."""
        return {"rows": len(self.examples), "first": [e.key for e in self.examples[:64]]}


def _row(example: Example, images: ImageLoader) -> dict[str, Any]:
    for name in _TRL_COLUMNS:
        if name in example.extras:
            raise DataError(
                f"expected no column {name}, which TRL gives to rewards itself",
                source=example.source,
                id=None if example.id == example.source else example.id,
                remedy=f"rename the column, for example to row_{name}",
            )
    pictures = images.get(example)
    return {
        **example.extras,
        "id": example.id,
        "answer": example.answer,
        "prompt": example.prompt.messages(),
        "images": [pictures[index] for index in example.prompt.image_order],
    }
