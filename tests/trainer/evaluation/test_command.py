"""``triptych eval`` on a small model and file."""

import json

import pytest
from triptych_trainer.evaluation import main


@pytest.fixture
def options(model_dir, write_rows):
    data = write_rows([0, 1, 2, 5])
    return ["--model", str(model_dir), "--data", str(data), "--max_completion_length", "4", "--batch_size", "3"]


def test_scores_every_row_and_writes_json_and_html(options, tmp_path, capsys, model_dir):
    out = ["--json", str(tmp_path / "e.json"), "--html", str(tmp_path / "e.html"), "--num_generations", "2"]
    assert main([*options, *out, "--reward", "accuracy", "format", "--base", str(model_dir)]) == 0
    content = json.loads((tmp_path / "e.json").read_text())
    assert [row["example_id"] for row in content["rows"]["model"]] == [f"row-{k}" for k in range(4)]
    assert all(len(row["completions"]) == 2 for row in content["rows"]["model"])
    assert content["slices"]["model"]["images"].keys() == {"0", "1", "2", "5"}
    assert content["slices"]["model"]["kind"].keys() == {f"{k} images" for k in (0, 1, 2, 5)}
    assert content["rows"]["model"] == content["rows"]["base"], "the same model, greedily, says the same"
    page = (tmp_path / "e.html").read_text()
    assert "images = 5, base" in page
    assert "http" not in page
    assert "accuracy" in capsys.readouterr().out


def test_greedy_completions_do_not_depend_on_the_batch(options, tmp_path):
    found = []
    for size in ("1", "4"):
        path = tmp_path / f"{size}.json"
        assert main([*options, "--batch_size", size, "--json", str(path), "--quiet"]) == 0
        found.append([row["completions"] for row in json.loads(path.read_text())["rows"]["model"]])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--data", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--by", "familiy"], "no column 'familiy' to slice by; its further columns are: kind"),
        (["--reward", "acuracy"], "did you mean 'accuracy'"),
        (["--model", "./nowhere"], "./nowhere: no such folder"),
    ],
)
def test_bad_options_are_one_line(options, capsys, arguments, expected):
    assert main([*options, *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert expected in error


def test_text_from_data_stays_text(tmp_path):
    from triptych_trainer.evaluation import ScoredRow, breakdowns
    from triptych_trainer.evaluation.page import evaluation_page

    rows = [
        ScoredRow(
            example_id="<b>id</b>",
            source="f:1",
            num_images=1,
            columns={"answer": "<script>alert(1)</script>"},
            completions=("<script>alert(2)</script>",),
            scores={"accuracy": 1.0},
        )
    ]
    evaluation_page(
        tmp_path / "e.html", {"model": rows}, {"model": breakdowns(rows, by=[], position=None)}, title="<i>"
    )
    page = (tmp_path / "e.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(2)" in page
    assert "<b>id" not in page
