"""`python -m triptych_parser FILE.jsonl`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from triptych_parser import MarkerError
from triptych_parser.__main__ import main
from triptych_parser.check import check_record

GOOD: list[dict[str, Any]] = [
    {"prompt": "Compare <image> with <image>", "images": ["a.png", "b.png"]},
    {"problem": "<image> area?", "images": [{"bytes": None, "path": "a.png"}], "answer": "3"},
    {"conversations": [{"from": "human", "value": "which?"}, {"from": "gpt", "value": "1"}], "image": ["a", "b"]},
    {"conversations": [{"from": "human", "value": "<image>which?"}, {"from": "gpt", "value": 1}], "image": "a"},
    {"messages": [{"role": "user", "content": "<image:old> <image:new>"}], "images": {"old": "a", "new": "b"}},
    {"messages": [{"role": "user", "content": "<image:n>"}], "images": [{"name": "n", "image": "a"}]},
    {"messages": [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "x"}], "images": ["a"]},
    {"prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "<image>"}]}], "image": "a"},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    {"prompt": "no image at all"},
]


@pytest.mark.parametrize("record", GOOD)
def test_good_records_of_every_format(record: dict[str, Any]) -> None:
    check_record(record)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "<image>", "images": []}, "marker 1 has no image (expected 1 images, got 0)"),
        ({"prompt": "x", "images": ["a", "b"]}, "images 1, 2 have no marker (expected 2 markers, got 0)"),
        ({"images": ["a"]}, "no prompt in the record"),
        ([1], "no prompt in the record"),
        ({"prompt": 3}, "the prompt is neither text nor messages (got int)"),
        ({"messages": [{"role": "user"}, "x"]}, "message 2: a message needs a 'role'"),
    ],
)
def test_bad_records(record: Any, message: str) -> None:
    with pytest.raises(MarkerError) as caught:
        check_record(record, source="a.jsonl", line=1)
    assert message in caught.value.summary


def test_the_command_prints_every_error_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "train.jsonl"
    lines = [json.dumps(GOOD[0]), "", json.dumps({"prompt": "see <image>", "images": []}), "{broken", '"\udcff"']
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    assert main([str(path)]) == 1
    out = capsys.readouterr().out
    assert f"{path}:3: column 5, <image>: marker 1 has no image (expected 1 images, got 0)" in out
    assert "  see <image>\n      ^^^^^^^" in out
    assert f"{path}:4: not a JSON record" in out
    assert f"{path}:5: not a JSON record" in out
    assert out.endswith("3 of 4 records have errors\n")


def test_the_command_accepts_a_good_file_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "good.jsonl"
    path.write_text(json.dumps({"prompt": "<|image_1|>", "images": ["a"]}) + "\n")
    assert main([str(path), "--dialect", "phi"]) == 0
    assert capsys.readouterr().out == "1 records, no errors\n"
    path.write_text(json.dumps({"prompt": "which?", "images": ["a", "b"]}))
    assert main([str(path), "--no-markers", "first"]) == 0


def test_a_missing_file_is_exit_code_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere.jsonl")]) == 2
    assert "nowhere.jsonl: cannot be read: No such file" in capsys.readouterr().err


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(GOOD[0]))
    done = subprocess.run(
        [sys.executable, "-m", "triptych_parser", str(path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "1 records, no errors\n"
