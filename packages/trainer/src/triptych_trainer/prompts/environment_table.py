"""Rows without a task of their own: the environment adds the task to an empty message in ``reset``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from triptych_data import Example
from triptych_parser import Prompt, Turn, bind

__all__ = ["EnvironmentTable"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentTable:
    """Contains a number of equal rows, for a run whose environment gives the tasks."""

    num_rows: int

    def __len__(self) -> int:
        return self.num_rows

    def example(self, row: int, /) -> Example:
        """Return an empty message from the user."""
        source = f"environment[{row}]"
        prompt = bind(Prompt(turns=(Turn(role="user", segments=()),)), 0)
        return Example(id=source, prompt=prompt, images=(), answer=None, extras={}, source=source, row=row)

    def columns(self, row: int, /, read: Example | None = None) -> dict[str, Any]:
        """Return the columns that built-in rewards ask for, without a value."""
        source = f"environment[{row}]"
        return {"answer": None, "solution": None, "example_id": source, "source": source}

    def prompt(self, row: int, /, read: Example | None = None) -> list[dict[str, Any]]:
        """Return the empty message."""
        return [{"role": "user", "content": ""}]
