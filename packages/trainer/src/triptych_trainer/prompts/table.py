"""The examples of a run as the dataset that TRL's trainer walks: light rows, images left to the image loader."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import Dataset
from triptych_data import Example

__all__ = ["ExampleTable"]

RESERVED = (
    "prompt",
    "example",
    "answer",
    "solution",
    "example_id",
    "source",
    "images",
    "completions",
    "completion_ids",
)


class ExampleTable:
    """All examples of a run under one index, so that a row of a batch is a number and never a copy of its images."""

    def __init__(self, examples: Sequence[Example], *, on_fetch: Callable[[Example], None] | None = None) -> None:
        """Keep ``examples``; ``on_fetch`` is told of each one when its batch is fetched, one batch ahead of use."""
        self.examples = list(examples)
        self.on_fetch = on_fetch
        names = {name for example in self.examples for name in example.extras}
        self.extra_names = sorted(names - set(RESERVED))

    def __len__(self) -> int:
        return len(self.examples)

    def row(self, index: int) -> dict[str, Any]:
        """Return the columns of one example as rewards and logs see them; ``solution`` is TRL's name for the answer."""
        example = self.examples[index]
        extras = {name: example.extras.get(name) for name in self.extra_names}
        return {
            **extras,
            "example": index,
            "prompt": example.prompt.messages(),
            "answer": example.answer,
            "solution": example.answer,
            "example_id": example.id,
            "source": example.source,
        }

    def dataset(self, indices: range) -> Dataset:
        """Return a map-style dataset of these examples whose rows are made on access."""
        return Dataset.from_dict({"example": list(indices)}).with_transform(self._rows)

    def __getstate__(self) -> dict[str, Any]:
        """Only what tells one table from another: ``datasets`` hashes the transform that it is given."""
        return {"sources": [(example.source, example.id) for example in self.examples]}

    def _rows(self, batch: Mapping[str, list[int]]) -> dict[str, list[Any]]:
        if self.on_fetch is not None:
            for index in dict.fromkeys(batch["example"]):
                self.on_fetch(self.examples[index])
        rows = [self.row(index) for index in batch["example"]]
        return {name: [row[name] for row in rows] for name in rows[0]}
