"""``triptych eval`` on a small model and file."""

import json
import re
import shutil

import pytest
from triptych_trainer.commands.evaluate import main


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
    change = content["model_minus_base"]["all"]["all"]["accuracy"]
    assert (change["mean"], change["improved"], change["regressed"], change["num_rows"]) == (0, 0, 0, 4)
    page = (tmp_path / "e.html").read_text()
    assert "images = 5" in page
    assert page.count("data:image/png;base64,") == 6, "every image once"
    assert "src=" not in page
    printed = capsys.readouterr().out
    assert re.search(
        r"eval base: 4/4 .*accuracy [\d.]+  format [\d.]+  [\d,]+ tokens/s  [\d.,]+ images/s  [\d.]+ GiB", printed
    )
    tokens = [row["num_tokens"] for row in content["rows"]["model"]]
    assert tokens == sorted(tokens), "more images, more tokens"
    assert tokens[0] > 2 * 4
    assert "accuracy: no clear difference from the base, +0.000 (95 % interval -0.3" in printed


def test_values_of_the_data_are_no_markup_of_the_terminal(model_dir, write_rows, tmp_path, capsys):
    data = write_rows([1, 2])
    data.write_text(data.read_text().replace("1 images", "[/end] 1").replace("2 images", "[b] 2"))
    path = tmp_path / "new folder" / "e.json"
    given = ["--model", str(model_dir), "--data", str(data), "--max_completion_length", "2", "--json", str(path)]
    assert main([*given, "--limit", "0"]) == 0, "0: all rows"
    printed = capsys.readouterr().out
    assert "kind = [/end] 1" in printed
    assert "kind = [b] 2" in printed
    assert len(json.loads(path.read_text())["rows"]["model"]) == 2


@pytest.mark.slow
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
        (["--reward", "model:judge"], "--reward model:judge: expected reward functions, got a reward model"),
        (["--verdict", "acuracy"], "--verdict acuracy: expected the name of a reward, one of accuracy"),
        (["--model", "./nowhere"], "--model ./nowhere: no such folder"),
        (["--base", "./nowhere"], "--base ./nowhere: no such folder"),
        (["--json", "x", "--html", "./x"], "--html x: --json writes x; name another file for one of the two"),
        (["--limit", "-1"], "--limit expects 0 or more, got -1"),
        (["--batch_size", "0"], "--batch_size expects 1 or more, got 0"),
    ],
)
def test_bad_options_are_one_line(options, capsys, arguments, expected):
    assert main([*options, *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert expected in error


def test_answers_that_name_an_image_are_sliced_by_it(model_dir, write_rows, tmp_path, capsys):
    data = write_rows([4, 4, 4, 2])
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    for row, answer in zip(rows, ("image 4", "second", "red", '{"bbox_2d": [1, 2, 3, 4], "image": 1}'), strict=True):
        row["conversations"][1]["value"] = answer
    data.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    path = tmp_path / "e.json"
    given = ["--model", str(model_dir), "--data", str(data), "--max_completion_length", "2", "--json", str(path)]
    assert main(given) == 0
    content = json.loads(path.read_text())
    assert [row["answer_image"] for row in content["rows"]["model"]] == [4, 2, None, 1]
    assert list(content["slices"]["model"]["answer image"]) == ["1", "2", "4", "(not named)"]
    assert content["model_minus_base"] is None
    assert "answer image = 4" in capsys.readouterr().out


def test_a_tokenizer_without_an_end_is_refused_as_train_refuses_it(model_dir, write_rows, tmp_path, capsys):
    folder = shutil.copytree(model_dir, tmp_path / "endless")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert main(["--model", str(folder), "--data", str(write_rows([1])), "--max_completion_length", "2"]) == 2
    assert "names no token that ends a completion; set eos_token in its tokenizer_config" in capsys.readouterr().err
