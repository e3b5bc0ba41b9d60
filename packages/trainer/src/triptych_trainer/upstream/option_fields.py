"""The options of TRL and transformers, read from the sources of their classes: to import these takes many seconds."""

import ast
import builtins
import enum
import importlib.util
import typing
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["OptionField", "option_fields"]

HOMES: Mapping[str, tuple[str, str]] = {
    "GRPOConfig": ("trl", "trainer/grpo_config.py"),
    "SFTConfig": ("trl", "trainer/sft_config.py"),
    "ModelConfig": ("trl", "trainer/model_config.py"),
    "TrainingArguments": ("transformers", "training_args.py"),
}
"""The package and the file of each class that is named without its file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionField:
    """Describes one field of a class of options."""

    name: str
    hint: Any
    """Its type; a class that is not read is a class without members."""
    default: object
    """Its default where the source writes a constant, otherwise ``...``."""
    parsing: Mapping[str, Any] = field(default_factory=dict)
    """What its metadata say to the parser, as far as the source writes constants."""


class _UnreadableError(Exception):
    """Says that a source is not written as the ones that were known here."""


def option_fields(name: str) -> tuple[OptionField, ...] | None:
    """Return the fields of a class and of its bases, in their order; None where the sources cannot be read so."""
    try:
        return tuple(_fields(*_home(name)).values())
    except (_UnreadableError, OSError, SyntaxError, NameError, TypeError, ValueError):
        return None


def _home(name: str) -> tuple[Path, str]:
    if name not in HOMES:
        raise _UnreadableError(name)
    package, file = HOMES[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise _UnreadableError(package)
    return Path(spec.submodule_search_locations[0]) / file, name


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _class(file: Path, name: str) -> tuple[Path, ast.ClassDef]:
    """A class that a file defines or imports, and where it is defined."""
    for node in _tree(file).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return file, node
        if isinstance(node, ast.ImportFrom) and name in (imported.name for imported in node.names):
            if node.level == 0:
                return _class(*_home(name))
            module = (node.module or "__init__").replace(".", "/")
            return _class(file.parents[node.level - 1] / f"{module}.py", name)
    raise _UnreadableError(name)


def _fields(file: Path, name: str) -> dict[str, OptionField]:
    file, node = _class(file, name)
    found: dict[str, OptionField] = {}
    for base in node.bases:
        if not isinstance(base, ast.Name):
            raise _UnreadableError(name)
        found |= _fields(file, base.id)
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            read = _field(file, line.target.id, line)
            found |= {} if read is None else {read.name: read}
    return found


def _field(file: Path, name: str, line: ast.AnnAssign) -> OptionField | None:
    """What a line of a class says of a field; None if no option sets it."""
    said = _keywords(line.value)
    init, default = said.get("init"), said.get("default")
    if isinstance(init, ast.Constant) and init.value is False:
        return None
    if isinstance(line.annotation, ast.Constant):  # a type as text
        raise _UnreadableError(name)
    code = compile(ast.Expression(line.annotation), str(file), "eval")
    return OptionField(
        name=name,
        hint=eval(code, _names(file, line.annotation)),
        default=default.value if isinstance(default, ast.Constant) else ...,
        parsing=_parsing(said.get("metadata")),
    )


def _parsing(metadata: ast.expr | None) -> dict[str, Any]:
    found = {}
    for key, value in zip(metadata.keys, metadata.values, strict=True) if isinstance(metadata, ast.Dict) else ():
        if isinstance(key, ast.Constant) and key.value in ("choices", "nargs", "const"):
            with suppress(ValueError):  # it is computed
                found[str(key.value)] = ast.literal_eval(value)
    return found


def _keywords(value: ast.expr | None) -> dict[str, ast.expr]:
    """What the source says of a field: the arguments of ``field(...)``, or its default alone."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "field":
        return {keyword.arg: keyword.value for keyword in value.keywords if keyword.arg}
    return {} if value is None else {"default": value}


def _names(file: Path, annotation: ast.expr) -> dict[str, Any]:
    """A meaning for each name of an annotation."""
    known: dict[str, Any] = {"__builtins__": {}}
    for name in {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}:
        if hasattr(builtins, name):
            known[name] = getattr(builtins, name)
        elif hasattr(typing, name):
            known[name] = getattr(typing, name)
        else:
            known[name] = _named(file, name)
    return known


def _named(file: Path, name: str) -> type:
    """An enumeration with the words that it has in its source; of any other class only the name."""
    try:
        node = _class(file, name)[1]
    except (_UnreadableError, OSError):
        return type(name, (), {})
    words = {
        line.targets[0].id: line.value.value
        for line in node.body
        if isinstance(line, ast.Assign)
        and isinstance(line.targets[0], ast.Name)
        and isinstance(line.value, ast.Constant)
    }
    is_enum = any(isinstance(base, ast.Name) and "Enum" in base.id for base in node.bases)
    return enum.Enum(name, words) if is_enum else type(name, (), {})  # type: ignore[return-value]
