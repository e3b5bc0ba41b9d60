"""The options of a training as its command line is first read: every option of TRL too, and nothing heavy imported."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from triptych_data.option_parser import OptionParser

from triptych_trainer.options.checkpointing import CHECKPOINTING, auto_or_bool
from triptych_trainer.options.words import true_or_false
from triptych_trainer.upstream.option_fields import OptionField, option_fields

__all__ = ["light_parser", "takes_several"]

NUMBERS = (int, float)


def light_parser(own: type, configs: Sequence[str], *, command: str) -> OptionParser | None:
    """Return a parser that reads and refuses the same words as that of a run; None where TRL's sources cannot be read.

    Args:
        own: Triptych's own options.
        configs: the classes of TRL whose options the command has.
    """
    hints = get_type_hints(own)
    described = [_own_field(option, hints[option.name]) for option in fields(own)]
    for name in configs:
        found = option_fields(name)
        if found is None:
            return None
        described += found
    made = OptionParser(prog=command)
    for option in described:
        made.add_argument(f"--{option.name}", **{**option.parsing, **_argument(option, allows_auto=command == "train")})
        if _is_bool(option.hint) and option.default is True:
            made.add_argument(f"--no_{option.name}", action="store_false", dest=option.name, default=None)
    return made


def _own_field(option: Field[Any], hint: Any) -> OptionField:
    default = ... if option.default is MISSING else option.default
    return OptionField(name=option.name, hint=hint, default=default)


def _argument(option: OptionField, *, allows_auto: bool) -> Mapping[str, Any]:
    """How transformers has an option of this type parsed; whatever is not given is None."""
    kind = _kind(option.hint)
    if takes_several(option.hint):
        return {"type": str, "nargs": "+"}
    if _is_bool(option.hint):
        reads = auto_or_bool if allows_auto and option.name == CHECKPOINTING else true_or_false
        # an option that may be None takes no default, and so always needs its word
        needs_word = option.hint == bool | None and option.default is None
        return {"type": reads} if needs_word else {"type": reads, "nargs": "?", "const": True}
    if get_origin(kind) is Literal:
        return {"choices": list(map(str, get_args(kind)))}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"choices": [member.value for member in kind]}
    if get_origin(kind) is list:
        kind = get_args(kind)[0]
        return {"type": kind if kind in NUMBERS else str, "nargs": "+"}
    if kind not in NUMBERS:
        return {"type": str}
    return {"type": _or_none(kind) if type(None) in get_args(option.hint) else kind}


def takes_several(hint: Any) -> bool:
    """Return whether an option may be a text or a list of texts; transformers' parser reads only one word of it."""
    return {str, list[str]} <= set(get_args(hint))


def _or_none(number: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return what reads a number or, as TRL's parser does, the word none."""

    def read(word: str) -> Any:
        return None if word.lower() in ("none", "null") else number(word)

    read.__name__ = number.__name__  # argparse says it in its refusals
    return read


def _is_bool(hint: Any) -> bool:
    return hint == bool | None or _kind(hint) is bool


def _kind(hint: Any) -> Any:
    """The type that transformers parses where an option may have one of several."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    first, second = get_args(hint)[:2]
    if type(None) in get_args(hint):
        return first if second is type(None) else second
    return first if second is str else second
