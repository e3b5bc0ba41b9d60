"""What kinds of values the file of ``--config`` may give: argparse converts words, and takes all else as it is."""

from __future__ import annotations

import types
from argparse import Action
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from triptych_trainer.errors import UsageError

__all__ = ["check_choices", "check_kinds", "takes_mapping"]

_BY_WORD = (str, int, float, bool)
_NAMES: Mapping[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", dict: "a mapping"}
_SWITCHED = ("fsdp", "scale_rewards")
"""Options of text that transformers and TRL also take as true or false."""
_NEVER_NONE = ("report_to", "num_generations", "max_completion_length", "shuffle_dataset")
"""Options that transformers and TRL say may be None, and do not read so."""
_MAYBE_NONE = ("debug",)
"""Options whose type leaves None out, that read it as nothing; the written options of a run have it."""


def check_kinds(config: Mapping[str, Any], parts: Sequence[type]) -> None:
    """Check that every value in the file of ``--config`` is of a kind that its option may have.

    Text is left to the parser of the command line, which says what is wrong with a word.

    Raises:
        UsageError: names the option, what it expects and what it got.
    """
    hints = {name: hint for part in parts for name, hint in get_type_hints(part).items()}
    unset = {field.name for part in parts for field in fields(part) if field.default is None} - set(_NEVER_NONE)
    for name, value in config.items():
        if name not in hints or (name in _SWITCHED and isinstance(value, bool)):
            continue
        if value is None and (name in _MAYBE_NONE or name in unset):
            continue
        if _allows(hints[name], value) and not (value is None and name in _NEVER_NONE):
            continue
        expected = list(dict.fromkeys(_named(kind) for kind in _kinds(hints[name]) if kind is not type(None)))
        remedy = "leave it out for its default" if value is None else ""
        if "text" in expected and not isinstance(value, (list, dict, types.NoneType)):
            remedy = "YAML reads it so without quotes; put it in quotes"
        shown = "nothing" if value is None else repr(value)
        raise UsageError(
            f"--config: {name} expects {' or '.join(expected)}, got {shown}" + (f"; {remedy}" if remedy else "")
        )


def check_choices(config: Mapping[str, Any], actions: Iterable[Action]) -> None:
    """Check that every word in the file of ``--config`` is one that the command line would take.

    Raises:
        UsageError: names the option, its word and the words that it may be.
    """
    for action in actions:
        value = config.get(action.dest)
        known = [str(getattr(choice, "value", choice)) for choice in action.choices or ()]
        if known and isinstance(value, str) and value not in known:
            raise UsageError(f"--config: {action.dest} expects one of {', '.join(known)}, got {value!r}")


def takes_mapping(hint: Any) -> bool:
    """Return whether an option of this type is a mapping, which a command line gives as JSON."""
    return any((get_origin(kind) or kind) is dict for kind in _kinds(hint))


def _allows(hint: Any, value: Any) -> bool:
    return any(_is(kind, value) for kind in _kinds(hint))


def _is(kind: Any, value: Any) -> bool:
    origin = get_origin(kind) or kind
    if kind is Any:
        return True
    if value is None:
        return kind is type(None)
    if isinstance(value, list):
        inner = (get_args(kind) or (Any,))[0]
        return origin is list and all(_is_item(inner, item) for item in value)
    if isinstance(value, dict):
        return _takes_mapping(origin)
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, int):
        return kind in (int, float) or (kind is bool and value in (0, 1))
    if isinstance(value, float):
        return kind is float
    if not isinstance(value, str):  # YAML reads dates
        return False
    return kind in _BY_WORD or _is_word(kind) or kind == list[str] or _takes_mapping(origin)


def _is_item(kind: Any, item: Any) -> bool:
    """Whether an item of a list is of its kind already: nothing converts its words."""
    if isinstance(item, str):
        return kind is str or kind is Any or _is_word(kind)
    return not isinstance(item, (list, dict)) and _is(kind, item)


def _takes_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and not issubclass(origin, (*_BY_WORD, list, Enum, types.NoneType))


def _is_word(kind: Any) -> bool:
    return get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, Enum))


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _named(kind: Any) -> str:
    if get_origin(kind) is list or kind is list:
        return f"a list of {'numbers' if (get_args(kind) or (str,))[0] in (int, float) else 'texts'}"
    if kind is str or _is_word(kind):
        return "text"
    return _NAMES.get(kind, "a mapping")
