"""`triptych-data`: the commands of the package without the trainer."""

import pytest
from triptych_data.__main__ import COMMANDS, main


def test_without_a_command_it_names_them(capsys):
    assert main([]) == 2
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(printed.count(f"\n  {name} ") == 2 for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_has_the_name_of_this_command(command, capsys):
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: triptych-data {command} FILE ... [options]\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["prevew"], "triptych-data: error: there is no command 'prevew'; did you mean preview?; "),
        (["preview", "nowhere.jsonl"], "triptych-data preview: error: nowhere.jsonl: no such file (looked from "),
        (["preview"], "triptych-data preview: error: --data is missing: "),
        (["preview", "x.jsonl", "--reward", "format"], "triptych-data preview: error: there is no option --reward; "),
        (["check", "x.jsonl", "--sft"], "triptych-data check: error: there is no option --sft; "),
    ],
)
def test_what_it_does_not_know_is_one_line(words, expected, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(expected)
    assert error.count("\n") == 1


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    name, version = capsys.readouterr().out.split()
    assert name == "triptych-data"
    assert version.count(".") == 2
