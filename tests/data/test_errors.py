"""Names from files reach a terminal only as characters that stay where they are."""

from __future__ import annotations

import pytest
from triptych_data import DataError, ImageError, read_examples
from triptych_data.check import main
from triptych_data.errors import UsageError
from triptych_data.outcome import outcome
from triptych_parser.printable import printable

ODD = "\x1b[2J\x07a\nb\u202ec\x9b31m"
SHOWN = r"\x1b[2J\x07a\nb\u202ec\x9b31m"


def test_what_moves_a_cursor_is_written_as_an_escape():
    assert printable(ODD, kept="") == SHOWN
    assert printable("Größe, 大小, \N{GRINNING FACE}") == "Größe, 大小, \N{GRINNING FACE}"
    assert printable("\ud800") == r"\ud800"


def test_an_error_is_one_line_whatever_is_named_in_it():
    error = DataError(f"got {ODD}", source=f"{ODD}:1", id=ODD, remedy=f"remove {ODD}")
    assert str(error) == f"{SHOWN}:1 (id {SHOWN}): got {SHOWN}; remove {SHOWN}"
    assert error.source == f"{ODD}:1"  # the place itself: rows are compared by it
    assert str(ImageError("gone", image=ODD, kind="missing", remedy="copy it")) == f"image {SHOWN}: gone; copy it"
    assert len(str(DataError("x", source="s", id="i" * 100_000, remedy="y"))) < 1000


@pytest.mark.parametrize(
    "row", [{"id": ODD, "prompt": "<image>", "images": []}, {"prompt": "<image>", "images": [ODD]}, {ODD: 1}]
)
def test_a_row_of_odd_names_is_refused_in_one_line(write_jsonl, capsys, row):
    path = write_jsonl([row], name=f"odd[red]{ODD[:4].replace('/', '')}.jsonl")
    with pytest.raises(DataError) as caught:
        read_examples(path)
    assert str(caught.value).isprintable()
    assert main([str(path)]) == 1
    printed = capsys.readouterr()
    assert "\x1b[2J" not in printed.out + printed.err
    assert "odd[red]" in printed.out


def test_names_of_columns_for_rewards_are_shown_without_escapes(write_jsonl, capsys):
    assert main([str(write_jsonl([{"prompt": "x", "answer": "y", ODD: 1}]))]) == 0
    printed = capsys.readouterr().out
    assert f"columns for rewards  answer: 1  {SHOWN}: 1" in printed


def test_what_own_code_raises_over_several_lines_is_one_line(capsys):
    def run():
        raise UsageError("two\n  lines")

    assert outcome("triptych", run) == 2
    assert capsys.readouterr().err == "triptych: error: two lines\n"
