"""One completion with everything a reward may look at, and the step from a function of one row to TRL's convention."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal

from PIL import Image

from triptych_trainer.rewards.completion import completion_text, extract_answer, has_reasoning, lower_tags, opened_by

Completion = str | list[dict[str, Any]]
Reward = Callable[..., Any]  # (prompts, completions, completion_ids, **columns) -> list[float | None], or a coroutine
RowScore = Callable[["Row"], float | None]
RowCheck = Callable[["Row"], object]
"""Raises ValueError, which names the row, where no completion could ever be right; the row's text is empty."""
OpenPixels = Callable[[Literal["seen", "source"]], Image.Image]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """Describes one image of a prompt as the model saw it; `number` is what people and models call it."""

    index: int
    """Position in the record's image list, from 0."""
    name: str | None = None
    annotation: str | None = None
    width: int
    """Pixels as the model sees them, after resizing."""
    height: int
    source_width: int | None = None
    """Pixels of the file, where known: boxes of a dataset are often in these."""
    source_height: int | None = None
    places: tuple[int, ...] = ()
    """Which of the prompt's image markers show it, counted from 0 over all messages; empty where not known."""
    pixels: OpenPixels | None = field(default=None, repr=False, compare=False)
    """Decodes the image, through the run's own loader; use `open`."""

    @property
    def number(self) -> int:
        """Position from 1, as in `<image:2>`."""
        return self.index + 1

    def open(self, size: Literal["seen", "source"] = "seen") -> Image.Image:
        """Return the image's pixels in RGB, as the model saw it or in the size of its file; decoded when asked for.

        Raises ValueError where there is nothing to decode: in an info made by hand, or in another process.
        """
        if size not in ("seen", "source"):
            raise ValueError(f"unknown size {size!r} of image {self.number}; known: seen, source")
        if self.pixels is None:
            raise ValueError(
                f"image {self.number} has no pixels here: rewards open images in the process that calls them; "
                "open it before you send it to another process"
            )
        return self.pixels(size)

    def __deepcopy__(self, memo: Any) -> "ImageInfo":
        """Return the same object, because it is never changed."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process without what opens the image: pixels are never sent along."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "pixels"}
        return _image_info, (values,)


def _image_info(values: dict[str, Any]) -> ImageInfo:
    return ImageInfo(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Contains one completion: its text and tokens, the sample's answer and images, and the dataset's other columns."""

    text: str
    """What the model wrote; `said` has before it what the prompt's end began."""
    answer: str | None
    """The expected answer; one that is no text as JSON writes it."""
    answer_list: tuple[Any, ...] | None = None
    """The expected answer where it is a list."""
    images: tuple[ImageInfo, ...] = ()
    example_id: str = ""
    source: str = ""
    completion_ids: Sequence[int] | None = None
    prompt: Any = None
    opened: str | None = ""
    """What the prompt's end began of the completion, such as `<think>`; None where the prompt is not known."""
    extras: Mapping[str, Any] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """The completion with what the prompt's end began of it."""
        return (self.opened or "") + self.text

    @property
    def said_answer(self) -> str | None:
        """The answer of the completion (see `extract_answer`); None where it has none or is unfinished."""
        return extract_answer(self.said)

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
    Images are those of `image_infos`, where the trainer gives them, because `images` may be the row's own column.
    """
    per_row = {name: value for name, value in columns.items() if is_column(value, len(completions))}
    named = ("answer", "image_infos", "images", "example_id", "source", "prompt_end")

    def build(k: int, completion: Completion) -> Row:
        values = {name: column[k] for name, column in per_row.items()}
        answer, infos, images, example_id, source, prompt_end = (values.pop(name, None) for name in named)
        prompt = None if prompts is None else prompts[k]
        return Row(
            text=completion_text(completion),
            answer=answer if answer is None or isinstance(answer, str) else as_text(answer),
            answer_list=tuple(answer) if isinstance(answer, list | tuple) else None,
            images=tuple(image for image in infos or images or () if isinstance(image, ImageInfo)),
            example_id="" if example_id is None else str(example_id),
            source="" if source is None else str(source),
            completion_ids=None if completion_ids is None else completion_ids[k],
            prompt=prompt,
            opened=_opened(completion, prompt if prompt_end is None else prompt_end),
            extras=MappingProxyType(values),
        )

    return [build(k, completion) for k, completion in enumerate(completions)]


def _opened(completion: Completion, prompt_end: Any) -> str | None:
    if has_reasoning(completion):
        return ""
    return opened_by(prompt_end) if isinstance(prompt_end, str) else None


def row_reward(score: RowScore, *, name: str | None = None, check: RowCheck | None = None) -> Reward:
    """Make a reward function from a function of one row; usable as a decorator.

    The name is what logs show as `rewards/<name>/mean`; by default the function's own. `check` is called with each row
    of the data before a run begins, and raises ValueError where no completion could ever be right.
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
    reward.check_answer = check  # type: ignore[attr-defined]
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
    text = (value if isinstance(value, str) else as_text(value)).strip()
    lowered = lower_tags(text)
    start, end = lowered.rfind("<answer>"), lowered.rfind("</answer>")
    text = text[start + len("<answer>") : end].strip() if 0 <= start < end else text
    if not text:
        raise ValueError(
            f"{row.where}: the column {column!r} contains an empty text, which no completion can meet; "
            "write the answer into the record, or drop the row"
        )
    return text


def as_text(value: Any) -> str:
    """Return an answer that is no text as JSON writes it."""
    return json.dumps(value, ensure_ascii=False, default=str)


def is_column(value: Any, num_rows: int) -> bool:
    """Say whether a keyword argument of a reward contains one value per completion."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) == num_rows
