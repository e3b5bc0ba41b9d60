"""Options that are one of a few words."""

from __future__ import annotations

from typing import Any

__all__ = ["check_choice"]


def check_choice(name: str, value: object, choices: Any) -> None:
    """Raise ValueError unless `value` is one of the words of a `Literal`."""
    words = choices.__args__  # as `get_args` gives them, at a tenth of its cost
    if value not in words:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, words))}, got {value!r}")
