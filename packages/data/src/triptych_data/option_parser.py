"""How every command reads its options: one dataclass per group of them, names with `_` or `-`, errors as one line."""

from __future__ import annotations

import argparse
import difflib
import itertools
import math
import operator
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from triptych_data.errors import UsageError
from triptych_data.other_names import nearest_option

T = TypeVar("T")


class OptionParser(argparse.ArgumentParser):
    """Parses arguments: it abbreviates nothing, takes `--data-format` for `--data_format`, and raises UsageError.

    Its `option_classes` are those whose fields `add_options` has added to it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **options)
        self.option_classes: list[type] = []

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the options; UsageError names the nearest option if a word is unknown, before what is missing."""
        words, known = underscored(sys.argv[1:] if args is None else args), option_names(self)
        try:
            found, rest = self.parse_known_args(words, namespace)
        except UsageError:
            given = [word for word in itertools.takewhile(lambda word: word != "--", words) if word.startswith("--")]
            rest = [word for word in given if word.partition("=")[0] not in known]
            if not rest:
                raise
        if rest:
            raise unknown_option(rest[0], known, command=self.prog)
        return found

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the options that are known, and the words that are left."""
        return super().parse_known_args(underscored(sys.argv[1:] if args is None else args), namespace)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print below its usage."""
        raise UsageError(f"{message.removeprefix('argument ')}; see `{self.prog} --help`")


class _Formatter(argparse.HelpFormatter):
    """One line per option where its text allows it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=39, width=120)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        value = action.metavar if isinstance(action.metavar, str) and action.nargs in (None, "+") else ""
        switched_off = isinstance(action, Switch) and action.opposite
        names = f"--[no_]{action.dest}" if switched_off else ", ".join(action.option_strings)
        return f"{names} {value}{' ...' if action.nargs == '+' else ''}".rstrip()


class Switch(argparse.Action):
    """Turns an option on or off: `--x`, `--x false`, and `--no_x` for an option that is on by default."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, default: bool, help: str) -> None:
        self.opposite = f"--no_{dest}" if default else None
        names = [*option_strings, *([self.opposite] if self.opposite else [])]
        super().__init__(names, dest, nargs="?", default=default, help=help)

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Take one word, or none for true."""
        word = "true" if values is None else str(values).lower()
        if word not in _WORDS:
            raise argparse.ArgumentError(self, f"expected true or false, got {values!r}")
        setattr(namespace, self.dest, _WORDS[word] != (option_string is not None and option_string == self.opposite))


BOUNDS: Mapping[str, tuple[Callable[[Any, Any], bool], str]] = {
    "LEAST": (operator.ge, "{} or more"),
    "ABOVE": (operator.gt, "more than {}"),
    "MOST": (operator.le, "{} or less"),
}
"""What a class of options may say of its numbers, and how an error says it."""
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def underscored(words: Iterable[str]) -> list[str]:
    """Return the words of a command line, with `_` for `-` inside the names of options."""
    return [_underscored(word) for word in words]


def _underscored(word: str) -> str:
    if not word.startswith("--"):
        return word
    name, equals, value = word[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def given_path(text: str) -> Path:
    """Return the path that an argument of a command line names; refuse an empty one, which would be this folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got nothing")
    return Path(text)


def option_names(parser: argparse.ArgumentParser) -> list[str]:
    """Return every long option of a parser, written with `_`."""
    names = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
    return list(dict.fromkeys(underscored(names)))


def unknown_option(word: str, known: Sequence[str], *, command: str) -> UsageError:
    """Return the refusal of a word that is no option, with the nearest one."""
    if not word.startswith("-"):
        return UsageError(f"{word!r} belongs to no option; see `{command} --help`")
    name = word.partition("=")[0]
    return UsageError(f"there is no option {name}{nearest_option(name, known)}; see `{command} --help`")


def nearest(word: str, known: Sequence[str]) -> str:
    """Return a question that proposes the nearest of the known words, or nothing if none is near."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.7)  # "gpu" is not meant to be "cpu"
    return f"; did you mean {found[0]}?" if found else ""


def add_options(
    parser: argparse.ArgumentParser, options: type, *, title: str, leave_out: Sequence[str] = ()
) -> argparse._ArgumentGroup:
    """Add the fields of a dataclass as a group of options, and return it; each field's metadata has its `help`."""
    group = parser.add_argument_group(title)
    if isinstance(parser, OptionParser):
        parser.option_classes.append(options)
    hints, choices = get_type_hints(options), of_classes(options, "CHOICES")
    for option in fields(options):
        if option.name not in leave_out:
            described = _described(option, hints[option.name], choices.get(option.name, ()))
            group.add_argument(f"--{option.name}", **described)
    return group


def collected(options: type[T], namespace: argparse.Namespace) -> T:
    """Return the dataclass with the values that were parsed; raise UsageError for a value that it refuses."""
    known = vars(namespace)
    made = options(**{option.name: known[option.name] for option in fields(options) if option.name in known})  # type: ignore[arg-type]
    return checked(made)


def checked(options: T) -> T:
    """Return the same options, with a single word for a list as a list of that word; raise UsageError for a value that
    its class refuses.

    A class says in `CHOICES` which words an option takes, and in `LEAST` and `MOST` its smallest and largest number;
    in `ABOVE` the number that it has to exceed.
    """
    hints = get_type_hints(type(options))
    choices = of_classes(type(options), "CHOICES")
    bounds = {name: of_classes(type(options), name) for name in BOUNDS}
    for option in fields(options):  # type: ignore[arg-type]
        name, value = option.name, getattr(options, option.name)
        if isinstance(value, str) and get_origin(_inner(hints[name])) is list:
            setattr(options, name, [value])
        if "" in (value if isinstance(value, list) else [value]):
            raise UsageError(f"--{name} expects a value, got an empty one; give one, or leave it out")
        if name in choices and value is not None and value not in choices[name]:
            known = choices[name]
            raise UsageError(f"--{name} expects one of {', '.join(known)}, got {value!r}{nearest(str(value), known)}")
        for kind, (holds, words) in BOUNDS.items():
            if name in bounds[kind] and value is not None and not holds(value, bounds[kind][name]):  # also "nan"
                raise UsageError(f"--{name} expects {words.format(bounds[kind][name])}, got {value}")
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise UsageError(f"--{name} expects a finite number, got {number}")
    return options


def refuse_given(options: Any, names: Iterable[str], *, why: str) -> None:
    """Raise UsageError if one of these options of a dataclass is not at its default, though nothing would read it."""
    stated = {option.name: option for option in fields(options)}
    for name in names:
        if getattr(options, name) != _default(stated[name]):
            raise UsageError(f"--{name}: {why}, or leave it out")


def of_classes(options: type, name: str) -> dict[str, Any]:
    """Return what a class of options and its bases say under a name."""
    return {key: value for base in reversed(options.__mro__) for key, value in vars(base).get(name, {}).items()}


def _described(option: Field[Any], hint: Any, choices: Sequence[str]) -> dict[str, Any]:
    kind = _inner(hint)
    default = _default(option)
    shown = "" if default in (None, False, [], "") else f" (default: {_shown(default)})"
    described: dict[str, Any] = {"default": default, "help": f"{option.metadata.get('help', '')}{shown}"}
    if kind is bool:
        return {**described, "action": Switch}
    words = "|".join(choices) if 0 < len(choices) < 4 else {int: "N", float: "X"}.get(kind, "WORD")
    described["metavar"] = option.metadata.get("metavar", words)
    if get_origin(kind) is list:
        return {**described, "nargs": "+", "type": get_args(kind)[0]}
    return {**described, "type": kind}


def _default(option: Field[Any]) -> Any:
    return option.default_factory() if option.default_factory is not MISSING else option.default


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return " ".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)


def _inner(hint: Any) -> Any:
    """The type of an optional value."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint
