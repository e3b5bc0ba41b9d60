"""Recorded rollouts before reward functions: what a function gets of a completion that was sampled earlier."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from triptych_data import Example, ImagePolicy, ImageSource, load_image
from triptych_data.resize import resize

from triptych_trainer.grpo.rewarding import TAKEN, call_rewards
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.prompts.own_values import own_values
from triptych_trainer.report.payload import recorded_infos
from triptych_trainer.rollouts.image_record import ImageRecord
from triptych_trainer.rollouts.record import GroupRecord

__all__ = ["RecordedRow", "RecordedRows", "rescored"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedRow:
    """Contains the row of a recorded prompt, read again from its data file."""

    example: Example
    columns: Mapping[str, Any]
    """What rewards get of it."""
    policy: ImagePolicy

    @classmethod
    def of(cls, table: ExampleTable, place: int, *, policy: ImagePolicy) -> "RecordedRow":
        """Return the row at a place of a table."""
        return cls(example=table.example(place), columns=table.columns(place), policy=policy)


class RecordedRows:
    """Finds the rows of recorded prompts by the row's key, or else by its id if only one row has it."""

    def __init__(self, tables: Sequence[ExampleTable], *, policy: ImagePolicy) -> None:
        self.tables, self.policy = tables, policy
        self.keys = {
            example.key: (number, place)
            for number, table in enumerate(tables)
            for place, example in enumerate(table.examples)
        }
        self.num_by_id = self.num_missing = 0

    @cached_property
    def ids(self) -> dict[str, tuple[int, int]]:
        """The place of each id that only one row has."""
        places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, table in enumerate(self.tables):
            for place, example in enumerate(table.examples):
                places[example.id].append((number, place))
        return {name: found[0] for name, found in places.items() if len(found) == 1}

    def place(self, record: GroupRecord) -> tuple[int, int] | None:
        """Return the table and the place of a record's row, or None if it is not there."""
        found = self.keys.get(record.key)
        if found is None and (found := self.ids.get(record.sample_id)) is not None:
            self.num_by_id += 1
        self.num_missing += found is None
        return found

    def row(self, place: tuple[int, int] | None) -> RecordedRow | None:
        """Return the row at a place."""
        return None if place is None else RecordedRow.of(self.tables[place[0]], place[1], policy=self.policy)

    def notes(self, num_groups: int) -> list[str]:
        """Return what a command has to say about how rows were found."""
        found = []
        if self.num_by_id:
            found.append(
                f"{self.num_by_id} of {num_groups} groups were matched with their rows by id: the files are others "
                "than those that were sampled for, or lie elsewhere"
            )
        if self.num_missing:
            found.append(
                f"{self.num_missing} of {num_groups} groups have no row in the data that is here: rewards got their "
                "answer and images, and no further column; name the files with --data"
            )
        return found


def rescored(
    record: GroupRecord, row: RecordedRow | None, *, rewards: Sequence[Callable[..., Any]]
) -> dict[str, list[float | None]]:
    """Score the completions of a record, and return one list for each reward, with None where a reward does not apply.

    Without its row, rewards get the answer, the id and the source that were recorded, and no further column.
    """
    n = len(record.completions)
    scores = call_rewards(
        rewards,
        prompts=[_prompt(record, row) for _ in range(n)],
        completions=[_completion(record, k) for k in range(n)],
        # None where an older run did not write them: rewards that need the tokens say so
        completion_ids=[list(ids) for ids in record.completion_ids] or [None] * n,
        columns={name: [own_values(value) for _ in range(n)] for name, value in _columns(record, row).items()},
    )
    names = [reward.__name__ for reward in rewards]
    return {
        name: [None if score != score else score for score in of_reward]
        for name, of_reward in zip(names, scores, strict=True)
    }


def _prompt(record: GroupRecord, row: RecordedRow | None) -> list[dict[str, Any]]:
    if row is not None:
        return row.example.prompt.messages()
    return [{"role": role, "content": [_part(piece) for piece in pieces]} for role, pieces in record.prompt]


def _part(piece: str | int) -> dict[str, str]:
    return {"type": "text", "text": piece} if isinstance(piece, str) else {"type": "image"}


def _completion(record: GroupRecord, k: int) -> Any:
    messages = record.messages[k] if record.messages else None
    return [{"role": "assistant", "content": record.completions[k]}] if messages is None else json.loads(messages)


def _columns(record: GroupRecord, row: RecordedRow | None) -> dict[str, Any]:
    """The columns of the row under the names under which a run passes them to rewards."""
    infos = [
        replace(info, pixels=partial(_pixels, record.images[info.index], row, info.index))
        for info in recorded_infos(record.images)
    ]
    own: Mapping[str, Any] = {
        "answer": record.answer,
        "solution": record.answer,
        "example_id": record.sample_id,
        "source": record.source,
    }
    if row is not None:
        own = {name: value for name, value in row.columns.items() if name not in TAKEN}
    return {"images": infos, **own, "image_infos": infos, "prompt_end": record.opened}


def _pixels(image: ImageRecord, row: RecordedRow | None, k: int, size: Literal["seen", "source"]) -> Image.Image:
    """The image of a record from its file, or from its row, in the size of its file or as the model saw it."""
    path = Path(image.ref)
    if row is not None and k < len(row.example.images):
        source, policy = row.example.images[k], row.policy
    elif path.is_file():
        source, policy = ImageSource(ref=path.name, root=path.parent), ImagePolicy()
    else:
        raise ValueError(f"image {k + 1} ({image.ref}) is no file that is here; name the data of the run with --data")
    picture = load_image(source, policy=policy)
    if size == "source":
        return picture
    return Image.fromarray(np.array(resize(np.asarray(picture), (image.height, image.width))))
