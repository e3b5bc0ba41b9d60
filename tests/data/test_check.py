"""`triptych-data check`: what it prints, writes and returns."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from triptych_data import read_examples
from triptych_data.check import main
from triptych_data.read_row import format_reader
from triptych_data.rows import open_rows
from triptych_data.tally import percentiles

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "mllm_demo.json"


def row(index: int, prompt: str, images: list[str], **more) -> dict:
    turns = [{"from": "human", "value": prompt}, {"from": "gpt", "value": "yes"}]
    return {"id": index, "image": images, "conversations": turns, **more}


@pytest.fixture
def mixed(write_jsonl, pictures, tmp_path) -> Path:
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "1.jpg").read_bytes()[:-200])
    (tmp_path / "text.jpg").write_text("404 not found")
    return write_jsonl(
        [
            row(1, "<image> and <image>", pictures[:2]),
            row(2, "<image> <image>", pictures[:3]),
            row(3, "<image>", ["gone.jpg"]),
            "{not json",
            row(5, "<image>", ["../../etc/passwd"]),
            row(6, "<image>", ["text.jpg"]),
            row(7, "<image>", ["cut.jpg"]),
            row(8, "no image", []),
            row(9, "<image> and <image>", pictures[:2]),
            row(10, "<image>", ["https://example.invalid/1.jpg"]),
        ]
    )


def test_a_mixed_file_reads_as_a_user_wants_it(mixed, capsys, tmp_path):
    assert main([str(mixed), "--json", str(tmp_path / "report.json"), "--workers", "1", "--no_decode"]) == 1
    printed = capsys.readouterr().out
    assert "10 rows, 4 pass, 6 would be refused; only headers were read (--no_decode): damaged images may" in printed
    assert f"{mixed}:2 (id 2): image 3 has no marker (expected 3 markers, got 2); add <image>" in printed
    assert f"{mixed}:3 (id 3): image 1 of 1, gone.jpg: no such file below" in printed
    assert f"{mixed}:4: not valid JSON" in printed
    assert f"{mixed}:5 (id 5): image 1 of 1, ../../etc/passwd: the path leads out of the image root" in printed
    assert "got TEXT; the download failed: fetch the file again" in printed
    assert "1 refused: markers and images do not fit" in printed
    assert f"{mixed}:9 repeats {mixed}:1" in printed
    assert "images per prompt  0: 1  1: 1  2: 2" in printed
    assert "read as  vlm_r1: 4" in printed
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["refused_by_kind"] == {
        "markers": 1,
        "missing": 1,
        "json": 1,
        "escape": 1,
        "format": 1,
        "remote": 1,
    }
    assert [entry["source"].rpartition(":")[2] for entry in report["refused_rows"]] == ["2", "3", "4", "5", "6", "10"]
    assert report["repeated_rows"] == [{"source": f"{mixed}:9", "first": f"{mixed}:1"}]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("vlm_r1", {"image": "1.jpg", "conversations": [{"from": "human", "value": "<image> x"}]}),
        ("sharegpt", {"messages": [{"role": "user", "content": "<image> x"}], "images": ["1.jpg"]}),
        ("verl", {"prompt": "<image> x", "images": ["1.jpg"], "reward_model": {"ground_truth": "y"}}),
        ("trl", {"prompt": "<image> x", "images": ["1.jpg"]}),
        ("question", {"question": "<image> x", "images": ["1.jpg"]}),
        ("sharegpt", {"dialog": [{"from": "human", "value": "<image> x"}], "pics": ["1.jpg"]}),
    ],
)
def test_it_says_which_format_was_found(name, values, write_jsonl, pictures, capsys, tmp_path):
    path = write_jsonl([values])
    if "dialog" in values:
        columns = {"messages": "dialog", "images": "pics"}
        entry = {"file_name": path.name, "formatting": "sharegpt", "columns": columns}
        (tmp_path / "dataset_info.json").write_text(json.dumps({"mine": entry}))
    assert main([str(path), "--json", str(tmp_path / "report.json")]) == 0
    assert f"read as  {name}: 1\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text())["read_as"] == {name: 1}


def test_a_row_without_a_prompt_is_read_as_the_columns_of_trl(write_jsonl):
    (row,) = open_rows(write_jsonl([{"answer": "y"}]))
    assert format_reader("auto")(row) == "trl"
    assert format_reader("verl")(row) == "verl"


def test_decode_finds_what_headers_cannot(mixed, capsys):
    assert main([str(mixed)]) == 1
    printed = capsys.readouterr().out
    assert "10 rows, 3 pass, 7 would be refused" in printed
    assert "1 refused: images cut short" in printed
    assert f"{mixed}:7 (id 7): image 1 of 1, cut.jpg: cannot be decoded" in printed


def test_fix_writes_the_rows_that_pass_as_they_stood(mixed, tmp_path, capsys):
    fixed = tmp_path / "fixed.jsonl"
    assert main([str(mixed), "--fix", str(fixed)]) == 1
    wanted = [json.loads(line) for line in mixed.read_text().splitlines() if line.startswith('{"')]
    assert [json.loads(line) for line in fixed.read_text().splitlines()] == [
        row for row in wanted if row["id"] in (1, 8, 9)
    ]
    assert main([str(fixed)]) == 0
    assert len(read_examples(fixed)) == 3
    assert main([str(fixed), "--fix", str(fixed)]) == 2
    assert "--fix would overwrite" in capsys.readouterr().err
    assert main([str(fixed), "--json", str(fixed)]) == 2
    assert "--json would overwrite" in capsys.readouterr().err
    assert len(fixed.read_text().splitlines()) == 3


def test_what_cannot_run_is_one_line_and_exit_code_2(tmp_path, capsys):
    assert main([str(tmp_path / "gone.jsonl")]) == 2
    gone = f"{tmp_path / 'gone.jsonl'}: no such file (looked from {Path.cwd()}); correct the path"
    assert capsys.readouterr().err == f"triptych-data check: error: {gone}\n"
    (tmp_path / "empty.jsonl").write_text("\n\n")
    assert main([str(tmp_path / "empty.jsonl")]) == 2
    assert "the file contains no rows" in capsys.readouterr().err
    (tmp_path / "x.jsonl").write_text('{"prompt": "x"}\n')
    (tmp_path / "link").symlink_to(tmp_path / "y.jsonl")
    outputs = ["--json", str(tmp_path / "y.jsonl"), "--fix", str(tmp_path / "link")]
    assert main([str(tmp_path / "x.jsonl"), *outputs]) == 2
    assert f"y.jsonl: --fix writes {tmp_path / 'link'}; name another file" in capsys.readouterr().err
    assert main([str(tmp_path / "x.jsonl"), "--max_prompt_tokens", "5"]) == 2
    assert "needs --model" in capsys.readouterr().err


@pytest.mark.skipif(not SAMPLE.exists(), reason="the sample data of another project is not here")
def test_the_sample_of_another_project_passes(capsys):
    assert main([str(SAMPLE)]) == 0
    printed = capsys.readouterr().out
    assert "6 rows, 6 pass, 0 would be refused\n" in printed
    assert "JPEG: 6" in printed


@pytest.mark.slow
def test_two_workers_say_what_one_says(write_jsonl, pictures, capsys, tmp_path):
    rows = [row(index, "<image>" * (index % 4), pictures[: index % 3]) for index in range(1200)]
    path = write_jsonl(rows)
    reports = []
    for workers in ("1", "2"):
        assert main([str(path), "--workers", workers, "--json", str(tmp_path / "r.json")]) == 1
        reports.append((tmp_path / "r.json").read_text())
    assert reports[0] == reports[1]


CHECK_LARGE = """
import resource, sys
from triptych_data.check import main

for path in sys.argv[2:]:
    assert main([path, "--json", sys.argv[1]]) == 1
    peaks = [resource.getrusage(who).ru_maxrss >> 10 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print("peak", max(peaks))
"""


def large_file(folder: Path, pictures: list[str], count: int) -> Path:
    path = folder / f"{count}.jsonl"
    with path.open("w") as stream:
        for index in range(count):
            images = [pictures[(index + k) % 5] for k in range(2)] if index % 8 == 0 else []
            if index % 1000 == 999:
                images.append("gone.jpg")
            stream.write(json.dumps(row(index, f"question {index} " + "see <image> " * len(images), images)) + "\n")
    return path


@pytest.mark.slow
def test_many_rows_are_checked_in_flat_memory(pictures, tmp_path):
    """One process checks 2,000 rows and then 20,000: what it keeps of each row would show in its peak."""
    counts = (2_000, 20_000)
    paths = [str(large_file(tmp_path, pictures, count)) for count in counts]
    command = [sys.executable, "-c", CHECK_LARGE, str(tmp_path / "r.json"), *paths]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    for count in counts:
        assert f"{count:,} rows, {count - count // 1000:,} pass, {count // 1000:,} would be refused" in run.stdout
    assert f"... and {counts[1] // 1000 - 5:,} more" in run.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["rows"] == 20_000
    assert report["refused_by_kind"] == {"missing": 20}
    small, large = (int(line.split()[1]) for line in run.stdout.splitlines() if line.startswith("peak "))
    assert large - small < 12  # MB, for 18,000 rows more


def test_percentiles_are_nearest_ranks():
    assert percentiles(range(1, 101)) == {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    assert percentiles([7]) == {"p50": 7, "p95": 7, "p99": 7, "max": 7}
    assert percentiles([]) is None


def test_the_module_runs_as_a_command(mixed):
    run = subprocess.run(
        [sys.executable, "-m", "triptych_data", "check", str(mixed)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "would be refused" in run.stdout
    assert "Traceback" not in run.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0
