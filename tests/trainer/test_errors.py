"""Every error that is meant for the user is a ``Refusal``, and every command prints it as one line."""

import functools
import importlib
import inspect
import pkgutil

import pytest
import torch
import triptych_data
import triptych_parser
import triptych_trainer
from triptych_parser import Refusal
from triptych_trainer.cli import COMMANDS
from triptych_trainer.cli import main as triptych
from triptych_trainer.commands.outcome import outcome


def is_error_of(value: object, module: str) -> bool:
    if not (inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == module):
        return False
    return not issubclass(value, Warning)


@functools.cache
def defined_errors() -> dict[str, type]:
    found = {}
    for package in (triptych_parser, triptych_data, triptych_trainer):
        for part in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if part.name.endswith("__main__"):
                continue
            module = importlib.import_module(part.name)
            for name, value in vars(module).items():
                if is_error_of(value, part.name):
                    found[f"{part.name}.{name}"] = value
    return found


def test_every_error_of_the_packages_is_a_refusal_and_no_name_is_used_twice():
    errors = {name: error for name, error in defined_errors().items() if not error.__name__.startswith("_")}
    assert len(errors) > 10
    assert [name for name, error in errors.items() if not issubclass(error, Refusal)] == []
    names = [error.__name__ for error in errors.values()]
    assert sorted(set(names)) == sorted(names)


def known(error: type) -> Exception:
    """An error of this kind with a message of its own, whatever it is built from."""

    class Known(error):
        def __init__(self):
            Exception.__init__(self, "rows.jsonl:3: expected 2 images, got 1; add one")

    return Known()


def test_a_command_prints_any_of_them_as_one_line(capsys):
    for error in defined_errors().values():
        if not issubclass(error, Refusal):
            continue  # it stays inside its module
        made = known(error)

        def run(made=made):
            raise made

        assert outcome("triptych check", run) == 2, error
        said = capsys.readouterr().err
        assert said.endswith(": error: rows.jsonl:3: expected 2 images, got 1; add one\n"), error
        assert said.count("\n") == 1, error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total"),
            "asked for 2.00 GiB",
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), "`triptych plan`"),
        (MemoryError(), "this machine has no memory left; `triptych plan`"),
        (PermissionError(13, "Permission denied", "out/run.json"), "out/run.json: the system refuses it"),
    ],
)
def test_a_lack_of_memory_and_what_the_system_refuses_are_one_line(error, expected, capsys):
    def run():
        raise error

    assert outcome("train", run) == 2
    line = capsys.readouterr().err
    assert expected in line
    assert line.count("\n") == 1


def test_a_fault_of_the_program_keeps_its_traceback():
    def run():
        raise KeyError("internal")

    with pytest.raises(KeyError):
        outcome("train", run)


def test_characters_that_a_terminal_obeys_are_escaped(capsys):
    def run():
        raise FileNotFoundError(2, "No such file or directory", "a\x1b]0;owned\x07\udcff.png")

    assert outcome("train", run) == 2
    assert r"a\x1b]0;owned\x07\udcff.png" in capsys.readouterr().err


ARGUMENTS = {
    "train": ["--data", "{gone}", "--model_name_or_path", "{gone}"],
    "check": ["{gone}"],
    "preview": ["{gone}"],
    "plan": ["--data", "{gone}", "--model", "{gone}"],
    "eval": ["--data", "{gone}", "--model", "{gone}"],
    "rollout": ["--data", "{gone}", "--model", "{gone}", "-o", "tried"],
    "score": ["{gone}"],
    "completion": ["{gone}"],
    "report": ["{gone}"],
    "merge": ["{gone}", "--out", "merged"],
    "env": ["{gone}"],
    "serve": ["{gone}"],
    "chat": ["{gone}"],
    "sft": ["--data", "{gone}", "--model_name_or_path", "{gone}"],
}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_names_what_is_missing_in_one_line(command, tmp_path, capsys):
    gone = str(tmp_path / "gone.jsonl")
    assert triptych([command, *(word.format(gone=gone) for word in ARGUMENTS[command])]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert gone in error
