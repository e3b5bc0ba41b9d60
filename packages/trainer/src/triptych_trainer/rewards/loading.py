"""Find a reward by name, by `module:function` or by `path/to/file.py:function`."""

import ast
import difflib
import importlib
import importlib.util
import inspect
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from triptych_data.model_name import HUB_ID

from triptych_trainer.rewards.citation import image_reference_reward
from triptych_trainer.rewards.clicks import point_in_box_reward
from triptych_trainer.rewards.correctness import accuracy_reward
from triptych_trainer.rewards.format import format_reward
from triptych_trainer.rewards.grounding import boxes_reward, iou_reward
from triptych_trainer.rewards.judge import judge_reward
from triptych_trainer.rewards.lengths import cosine_length_reward, length_reward
from triptych_trainer.rewards.ordering import ordering_reward
from triptych_trainer.rewards.process_settings import changed_setting, process_settings
from triptych_trainer.rewards.repetition import repetition_reward
from triptych_trainer.rewards.row import Reward

PREFIX = "model:"
"""How a reward model is named; `reward_model.load_reward_model` loads it."""
KNOWN_REWARDS: Mapping[str, Callable[..., Reward]] = {
    "accuracy": accuracy_reward,
    "format": format_reward,
    "iou": iou_reward,
    "boxes": boxes_reward,
    "point_in_box": point_in_box_reward,
    "ordering": ordering_reward,
    "image_reference": image_reference_reward,
    "length": length_reward,
    "cosine_length": cosine_length_reward,
    "repetition": repetition_reward,
    "judge": judge_reward,
}


def load_reward(spec: str) -> Reward:
    """Return the reward function that `spec` names.

    `accuracy` is a known reward; `accuracy(mode="choice")` one with options; `package.module:function` and
    `path/to/file.py:function` are the user's own. Raises ValueError saying what was found and what to write.
    """
    head, options = _split_options(spec)
    if ":" in head:
        return _own_reward(head, options, spec=spec)
    build = _known(head)
    _check_options(build, options, spec=spec)
    return build(**options)


def check_names(specs: Iterable[str]) -> None:
    """Raise ValueError where a reward is unknown, or the file of an own one missing or no Python; nothing is loaded."""
    for spec in specs:
        head, options = _split_options(spec)
        location, colon, _ = head.rpartition(":")
        if not colon:
            _check_options(_known(head), options, spec=spec)
        elif not spec.startswith(PREFIX):
            location = _own_location(head, spec=spec)
            if location.endswith(".py"):
                _check_file(Path(location), spec=spec)
                _check_syntax(Path(location), spec=spec)


def check_model_spec(spec: str) -> None:
    """Raise ValueError if what follows ``model:`` is neither a folder that is there nor can be a hub id."""
    path = spec.removeprefix(PREFIX)
    if not path:
        raise ValueError(f"{PREFIX} expects a folder or a hub id behind its colon, got nothing")
    if not Path(path).is_dir() and not HUB_ID.fullmatch(path):
        raise ValueError(
            f"{spec}: no such folder (looked from {Path.cwd()}); correct the path, or give a hub id, which has the "
            "form owner/name"
        )


def _known(name: str) -> Callable[..., Reward]:
    if name not in KNOWN_REWARDS:
        close = difflib.get_close_matches(name, KNOWN_REWARDS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(
            f"unknown reward {name!r}{hint}; known rewards: {', '.join(KNOWN_REWARDS)}; "
            "for your own function write 'module:function' or 'path/to/file.py:function'"
        )
    return KNOWN_REWARDS[name]


def _split_options(spec: str) -> tuple[str, dict[str, Any]]:
    """Split `name(key=literal, ...)` into the name and its options; a Windows or odd path without `)` has none."""
    head, opened, _ = spec.strip().partition("(")
    if not opened or not spec.strip().endswith(")"):
        return spec.strip(), {}
    try:
        call = ast.parse(f"_({spec.strip()[len(head) + 1 : -1]})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(keyword.arg is None for keyword in call.keywords):
            raise ValueError("options are given by name")
        return head.strip(), {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"cannot read the options of reward {spec!r} ({error}); write them as Python literals by name, "
            'for example accuracy(mode="choice")'
        ) from error


def of_option(error: Exception) -> str:
    """Return the sentence of an error about a reward with the option before it, and the word "reward" once."""
    text = str(error)
    return f"--{text}" if text.startswith("reward ") else f"--reward: {text}"


def _own_reward(target: str, options: Mapping[str, Any], *, spec: str) -> Reward:
    if options:
        raise ValueError(f"reward {spec!r}: only known rewards take options; write a function that has them set")
    location, name = _own_location(target, spec=spec), target.rpartition(":")[2]
    before = process_settings()
    module = _load_file(Path(location), spec=spec) if location.endswith(".py") else _load_module(location, spec=spec)
    if (changed := changed_setting(before)) is not None:
        raise ValueError(f"reward {spec!r}: loading {location} {changed}")
    if not hasattr(module, name):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value) and key[0] != "_"]
        raise ValueError(
            f"reward {spec!r}: {location} has no {name!r}; its functions are: {', '.join(functions) or 'none'}"
        )
    function = getattr(module, name)
    if not callable(function) or inspect.isclass(function):
        raise ValueError(
            f"reward {spec!r}: expected a function, {name!r} is {type(function).__name__}; "
            f"name a function of {location}"
        )
    return function


def _own_location(target: str, *, spec: str) -> str:
    """The module or the file of `target`, which must name a function behind a colon."""
    location, _, name = target.rpartition(":")
    if not location or not name:
        raise ValueError(f"reward {spec!r}: write 'module:function' or 'path/to/file.py:function'")
    return location


def _check_syntax(path: Path, *, spec: str) -> None:
    try:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError) as error:
        raise _not_loaded(path, error, spec=spec) from error


def _not_loaded(path: Path, error: BaseException, *, spec: str) -> ValueError:
    return ValueError(f"reward {spec!r}: {path} cannot be loaded: {type(error).__name__}: {error}; correct the file")


def _check_file(path: Path, *, spec: str) -> None:
    if not path.is_file():
        raise ValueError(f"reward {spec!r}: no file {path} (looked from {Path.cwd()}); check the path before ':'")


def _load_file(path: Path, *, spec: str) -> ModuleType:
    _check_file(path, spec=spec)
    unique = f"triptych_reward_{path.stem}_{zlib.crc32(bytes(path.resolve())):08x}"
    module_spec = importlib.util.spec_from_file_location(unique, path.resolve())
    assert module_spec is not None  # the name ends in .py
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses and pickling look the module up by name
    try:
        module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # sys.exit() would end the run with exit code 0 and without a model
        del sys.modules[module_spec.name]
        raise _not_loaded(path, error, spec=spec) from error
    return module


def _load_module(name: str, *, spec: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"reward {spec!r}: cannot import {name!r} ({error}); install it, run from the folder that contains it "
            "with PYTHONPATH=. , or write 'path/to/file.py:function'"
        ) from error
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"reward {spec!r}: {name} cannot be loaded: {type(error).__name__}: {error}; correct the module"
        ) from error


def _check_options(build: Callable[..., Reward], options: Mapping[str, Any], *, spec: str) -> None:
    parameters = inspect.signature(build).parameters
    if unknown := [key for key in options if key not in parameters]:
        raise ValueError(f"reward {spec!r}: unknown option {unknown[0]!r}; it has: {', '.join(parameters) or 'none'}")
    needed = [key for key, parameter in parameters.items() if parameter.default is parameter.empty]
    if missing := [key for key in needed if key not in options]:
        raise ValueError(f"reward {spec!r} needs {', '.join(missing)}; write {spec.split('(')[0]}({missing[0]}=...)")
