"""The base class of every error for users, and the only exception of this package."""

from __future__ import annotations

__all__ = ["MarkerError", "Refusal"]


class Refusal(Exception):  # noqa: N818 - its subclasses carry the suffix
    """Says what the user can correct: what was expected, what came, where, and what to do.

    Every error of these packages that is meant for the user derives from it, and every command prints it as one line
    and ends with exit code 2. Whatever is no `Refusal` is a fault of the program and keeps its traceback.

    >>> issubclass(MarkerError, Refusal)
    True
    """


class MarkerError(Refusal, ValueError):
    """Says that a prompt and its images do not fit, or that a prompt cannot be tokenized as asked.

    `summary` is one line: place, problem with both numbers, remedy. `str(error)` adds the offending line of the prompt
    with carets under the marker where there is one. `line` is the record's line in `source` when the caller gave one,
    otherwise the line inside the prompt; `column` counts from 1 inside that prompt line.

    >>> error = MarkerError("too few images", source="a.jsonl", line=3, remedy="add one", expected=2, got=1)
    >>> print(error)
    a.jsonl:3: too few images (expected 2, got 1); add one
    >>> error.expected, error.got
    (2, 1)
    """

    def __init__(
        self,
        problem: str,
        *,
        source: str | None = None,
        line: int | None = None,
        column: int | None = None,
        marker: str | None = None,
        expected: object = None,
        got: object = None,
        remedy: str | None = None,
        excerpt: str | None = None,
    ) -> None:
        self.problem = problem
        self.source = source
        self.line = line
        self.column = column
        self.marker = marker
        self.expected = expected
        self.got = got
        self.remedy = remedy
        self.excerpt = excerpt
        super().__init__(f"{self.summary}\n{excerpt}" if excerpt else self.summary)

    @property
    def summary(self) -> str:
        """The message on one line, without the excerpt.

        >>> MarkerError("no such image", remedy="check the names").summary
        'no such image; check the names'
        """
        text = f"{self._place()}{self.problem}"
        numbers = [f"expected {self.expected}"] if self.expected is not None else []
        numbers += [f"got {self.got}"] if self.got is not None else []
        text += f" ({', '.join(numbers)})" if numbers else ""
        return f"{text}; {self.remedy}" if self.remedy else text

    def _place(self) -> str:
        if self.source is None and self.line is None:
            return ""
        if self.line is None:
            return f"{self.source}: "
        return f"{self.source}:{self.line}: " if self.source else f"line {self.line}: "

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling: worker processes hand these errors back."""
        return _rebuild, (self.problem, {name: getattr(self, name) for name in _FIELDS})


_FIELDS = ("source", "line", "column", "marker", "expected", "got", "remedy", "excerpt")


def _rebuild(problem: str, fields: dict[str, object]) -> MarkerError:
    return MarkerError(problem, **fields)  # type: ignore[arg-type]
