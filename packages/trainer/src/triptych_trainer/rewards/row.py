"""One completion with everything a reward may look at, and the step from a function of one row to TRL's convention."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from triptych_trainer.rewards.completion import completion_text

Completion = str | list[dict[str, Any]]
Reward = Callable[..., Any]  # (prompts, completions, completion_ids, **columns) -> list[float | None], or a coroutine
RowScore = Callable[["Row"], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """One image of a prompt as the model saw it; `number` is what people and models call it."""

    index: int
    """Position in the record's image list, from 0."""
    name: str | None = None
    annotation: str | None = None
    width: int
    """Pixels as fed to the model, after resizing."""
    height: int
    source_width: int | None = None
    """Pixels of the file, where known: boxes of a dataset are often in these."""
    source_height: int | None = None

    @property
    def number(self) -> int:
        """Position from 1, as in `<image:2>`."""
        return self.index + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One completion: its text and tokens, the sample's answer and images, and the dataset's other columns."""

    text: str
    answer: str | None
    images: tuple[ImageInfo, ...] = ()
    example_id: str = ""
    source: str = ""
    completion_ids: Sequence[int] | None = None
    prompt: Any = None
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The sample's id and origin, for messages."""
        return f"sample {self.example_id or '?'}" + (f" ({self.source})" if self.source else "")


def rows(
    completions: Sequence[Completion],
    *,
    prompts: Sequence[Any] | None = None,
    completion_ids: Sequence[Sequence[int]] | None = None,
    columns: Mapping[str, Any],
) -> list[Row]:
    """Turn TRL's keyword arguments into one `Row` per completion.

    A column is a list with one value per completion; other values (`trainer_state`, `log_metric`) are left out.
    """
    per_row = {name: value for name, value in columns.items() if is_column(value, len(completions))}
    named = ("answer", "images", "example_id", "source")

    def build(k: int, completion: Completion) -> Row:
        values = {name: column[k] for name, column in per_row.items()}
        answer, images, example_id, source = (values.pop(name, None) for name in named)
        return Row(
            text=completion_text(completion),
            answer=answer if answer is None or isinstance(answer, str) else json.dumps(answer),
            images=tuple(image for image in images or () if isinstance(image, ImageInfo)),
            example_id="" if example_id is None else str(example_id),
            source="" if source is None else str(source),
            completion_ids=None if completion_ids is None else completion_ids[k],
            prompt=None if prompts is None else prompts[k],
            extras=MappingProxyType(values),
        )

    return [build(k, completion) for k, completion in enumerate(completions)]


def row_reward(score: RowScore, *, name: str | None = None) -> Reward:
    """Make a reward function from a function of one row; usable as a decorator.

    The name is what logs show as `rewards/<name>/mean`; by default the function's own.
    """

    def reward(
        completions: Sequence[Completion],
        *,
        prompts: Sequence[Any] | None = None,
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        batch = rows(completions, prompts=prompts, completion_ids=completion_ids, columns=columns)
        return [score(row) for row in batch]

    reward.__name__ = reward.__qualname__ = name or str(getattr(score, "__name__", "reward"))
    reward.__doc__ = score.__doc__
    return reward


def expected_answer(row: Row) -> str:
    """Return the row's answer without `<answer>` tags, or raise ValueError naming the sample."""
    return expected_value(row, "answer")


def expected_value(row: Row, column: str) -> str:
    """Return what the dataset expects in a column, without `<answer>` tags, or raise ValueError naming the sample."""
    value = row.answer if column == "answer" else row.extras.get(column)
    if value is None:
        have = ", ".join(row.extras) or "none"
        raise ValueError(
            f"{row.where}: this reward compares with the column {column!r}, which is empty for this sample "
            f"(other columns: {have}); add it to the record, or use a reward that needs none (such as format)"
        )
    text = (value if isinstance(value, str) else json.dumps(value)).strip()
    start, end = text.rfind("<answer>"), text.rfind("</answer>")
    return text[start + len("<answer>") : end].strip() if 0 <= start < end else text


def is_column(value: Any, num_rows: int) -> bool:
    """Say whether a keyword argument of a reward holds one value per completion."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) == num_rows
