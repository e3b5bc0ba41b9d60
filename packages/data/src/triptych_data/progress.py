"""Progress of a run: a rich bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from triptych_parser.printable import printable

__all__ = ["Reporter", "Stage"]

PLAIN_EVERY_SECONDS = 10.0


class Reporter:
    """Says what a run is doing: bars for stages of known length, lines for the rest."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self.quiet = quiet
        self.console = console or Console(highlight=False, soft_wrap=True, markup=False, emoji=False)

    def say(self, text: str) -> None:
        """Print one line unless quiet; what a terminal would obey, in a name of a file or a row, is escaped."""
        if not self.quiet:
            self.conclude(text)

    def conclude(self, text: str) -> None:
        """Print a closing line, quiet or not."""
        self.console.print(printable(text))

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator["Stage"]:
        """Show a stage of ``total`` steps; the stage's ``advance`` moves it and says how it goes."""
        if self.quiet or not self.console.is_terminal:
            yield Stage(name=name, total=total, say=self.say)
            return
        columns = (
            TextColumn("[bold]{task.description:<12}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            yield Stage(
                name=name, total=total, say=self.say, bar=(progress, progress.add_task(name, total=total, status=""))
            )


class Stage:
    """Represents one stage under way."""

    def __init__(self, *, name: str, total: int | None, say: Any, bar: tuple[Progress, TaskID] | None = None) -> None:
        self.name, self.total, self.say, self.bar = name, total, say, bar
        self.first = self.done = 0
        self.started = time.monotonic()
        self.spoke = 0.0

    def start_at(self, first: int, *, total: int) -> None:
        """Begin now at step ``first`` of ``total``: what a resumed run did before says nothing about its speed."""
        self.first, self.started = first, time.monotonic()
        self.move_to(first, total=total)

    def advance(self, steps: int = 1, *, status: str = "") -> None:
        """Move on by ``steps`` and show ``status``; without a terminal, one line in ten seconds and the last."""
        self.move_to(self.done + steps, status=status)

    def move_to(self, done: int, *, status: str | None = "", total: int | None = None) -> None:
        """Move to step ``done``; ``total`` corrects the length once it is known.

        A step that has nothing to say of itself, status None, leaves what a bar shows; a line then says nothing.
        """
        self.done = done
        if total is not None:
            self.total = total
        if self.bar:
            progress, task = self.bar
            shown = progress.tasks[task].fields["status"] if status is None else status
            progress.update(task, completed=done, total=self.total, status=shown)
            return
        now = time.monotonic()
        if now - self.spoke >= PLAIN_EVERY_SECONDS or done == self.total:
            self.spoke = now
            self.say(f"{self.name}: {done}/{self.total or '?'} {status or ''}{self._left(now)}".rstrip())

    def _left(self, now: float) -> str:
        moved = self.done - self.first
        if not self.total or moved <= 0 or self.done >= self.total:
            return ""
        return f" ({(now - self.started) / moved * (self.total - self.done):.0f} s left)"
