"""Tables of a run: what a row's prompt is, and which columns rewards get of it. A row is known by its number."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from triptych_data import Example
from triptych_data.formats.columns import ANSWERS, LABELS
from triptych_data.formats.record import as_answer
from triptych_data.formats.truths import further_answers, ground_truths

__all__ = ["ExampleTable", "ScriptColumns", "Table"]

PROMPT_COLUMNS = ("prompt", "completion")
"""Columns that TRL does not pass to rewards: they get ``prompts`` and ``completions``."""


class Table(Protocol):
    """Describes rows by number, which are read when they are asked for."""

    def __len__(self) -> int: ...

    def example(self, row: int, /) -> Example:
        """Return the row as it is trained on."""
        ...

    def columns(self, row: int, /, read: Example | None = None) -> dict[str, Any]:
        """Return what rewards get of the row, each column under its own name with its own value.

        ``read`` is the row as it was read before: where each access draws new values, its own are returned.
        """
        ...

    def prompt(self, row: int, /, read: Example | None = None) -> str | list[dict[str, Any]]:
        """Return the prompt as rewards get it: messages, or a plain text, which is tokenized without a template."""
        ...


class ExampleTable:
    """Contains the rows of the command line's data files."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def example(self, row: int) -> Example:
        """Return the row as it is trained on."""
        return self.examples[row]

    def columns(self, row: int, read: Example | None = None) -> dict[str, Any]:
        """Return the row's own columns; the trainer adds ``images``, because files contain only paths of images."""
        example = self.examples[row]
        own = {name: value for name, value in (example.columns or example.extras).items() if name != "images"}
        return with_names(example, own)

    def prompt(self, row: int, read: Example | None = None) -> list[dict[str, Any]]:
        """Return the messages of the row; every prompt of a file is a conversation."""
        return self.examples[row].prompt.messages()


class ScriptColumns(dict[str, Any]):
    """Contains what rewards get of a row of a script's dataset; ``lacking`` names what TRL would not give."""

    lacking: frozenset[str] = frozenset()


def with_names(example: Example, own: dict[str, Any]) -> dict[str, Any]:
    """Return the row's own columns, and the columns that built-in rewards need if the row has none of that name."""
    answer = _as_given(example, own)
    named = {
        "answer": answer,
        "solution": answer,
        "example_id": example.id,
        "source": example.source,
    }
    return {**named, **{name: value for name, value in own.items() if name not in PROMPT_COLUMNS}}


def _as_given(example: Example, own: Mapping[str, Any]) -> Any:
    """The answer of the row: a list of accepted answers if the row has a list, else a text."""
    inside = {**ground_truths(own), **further_answers(own)}
    given = [*map(own.get, (*ANSWERS, *LABELS)), *inside.values()]
    lists = [value for value in given if isinstance(value, (list, tuple))]
    return next((value for value in lists if as_answer(value) == example.answer), example.answer)
