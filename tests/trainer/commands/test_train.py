"""The ``train`` command on a user's own model and files."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoTokenizer
from triptych_trainer.commands.train import main

LLAMA_FACTORY_SAMPLE = Path(__file__).resolve().parents[4] / "shared" / "data" / "mllm_demo.json"


@pytest.fixture
def options(model_dir, tmp_path):
    """A command line that trains two tiny steps; extend it with data."""
    return [
        *("--model_name_or_path", str(model_dir), "--output_dir", str(tmp_path / "out"), "--max_steps", "2"),
        *("--per_device_train_batch_size", "4", "--num_generations", "2", "--max_completion_length", "4"),
        *("--learning_rate", "1e-3", "--memory_forecast", "false"),
    ]


@pytest.fixture
def own_reward(tmp_path):
    """A user's own reward, with variance on random text."""
    path = tmp_path / "rewards.py"
    path.write_text(
        "def variety(completions, **columns):\n"
        "    return [float(len(set(completion[0]['content']))) for completion in completions]\n"
    )
    return f"{path}:variety"


def test_trains_and_saves_a_model_that_transformers_loads(options, write_rows, own_reward, tmp_path, model_dir, capsys):
    rows = write_rows([0, 1, 2, 5])
    code = main([*options, "--data", str(rows), "--image_root", str(tmp_path), "--reward", "format", own_reward])
    assert code == 0, capsys.readouterr().err
    out = tmp_path / "out"
    loaded, info = AutoModelForImageTextToText.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    original = AutoModelForImageTextToText.from_pretrained(model_dir).state_dict()
    assert any(not torch.equal(values, original[name]) for name, values in loaded.state_dict().items())
    assert AutoTokenizer.from_pretrained(out).chat_template
    record = json.loads((out / "run.json").read_text())
    assert record["data"][0]["sha256"]
    assert record["versions"]["trl"]
    assert yaml.safe_load((out / "config.yaml").read_text())["max_steps"] == 2
    card = (out / "README.md").read_text()
    assert "trained for 2 steps by GRPO" in card
    assert f"| `rows.jsonl` | `training` | `{rows.stat().st_size}` | `{record['data'][0]['sha256']}` |" in card
    assert str(tmp_path) not in card
    assert re.search(r"\| `variety` \| 1 \| [\d.]+ \|", card)
    assert "| `trl` | `1.16" in card
    assert "[report.html](report.html)" in card
    said = capsys.readouterr().out
    assert f"model: {out}" in said
    assert "GRPO, 2 steps" in said
    assert re.search(
        r"reward [\d.]+  length [\d.]+  without variance \d+%  [\d,]+ tokens/s  [\d.]+ images/s  [\d.]+ GiB", said
    )


@pytest.mark.slow
def test_options_come_from_yaml_the_command_line_wins_and_quiet_says_only_where_things_are(
    options, write_rows, tmp_path, capsys
):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"data": [str(write_rows([1, 2]))], "max_steps": 5, "reward": ["format"]}))
    assert main(["--config", str(config), *options, "--quiet"]) == 0
    state = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
    assert state["global_step"] == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["model", "what it said"]


@pytest.mark.slow
def test_resumes_from_the_latest_checkpoint(options, write_rows, tmp_path):
    rows = str(write_rows([1, 2, 1, 2]))
    assert main([*options, "--data", rows, "--save_steps", "1", "--reward", "format"]) == 0
    assert (tmp_path / "out" / "checkpoint-2").is_dir()
    longer = [*options, "--data", rows, "--reward", "format", "--max_steps", "3", "--save_steps", "1"]
    assert main([*longer, "--resume_from_checkpoint", "latest"]) == 0
    state = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
    assert state["global_step"] == 3
    assert [entry["step"] for entry in state["log_history"] if "reward" in entry] == [1, 2, 3]


def bad_row(tmp_path, text, *, line=2):
    good = json.dumps(
        {"id": "good", "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}
    )
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join([good] * (line - 1) + [text]) + "\n", encoding="utf-8")
    return path


def row(text, images):
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": "x"}]
    return json.dumps({"id": "broken", "image": images, "conversations": turns})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (row("a <image> b <image>", ["0.png", "0.png", "0.png"]), ("bad.jsonl:2", "broken", "2", "3")),
        (row("a <image>", ["missing.png"]), ("bad.jsonl:2", "broken", "missing.png")),
        ('{"id": "broken", "conversations": [', ("bad.jsonl:2",)),
    ],
    ids=["marker-count", "missing-file", "bad-json"],
)
def test_bad_data_stops_before_training_with_one_line(options, tmp_path, capsys, text, expected):
    Image.new("RGB", (56, 56)).save(tmp_path / "0.png")
    code = main([*options, "--data", str(bad_row(tmp_path, text)), "--image_root", str(tmp_path)])
    output = capsys.readouterr()
    assert code == 2
    assert len(output.err.strip().splitlines()) == 1
    for part in expected:
        assert part in output.err
    assert "; " in output.err, "the line ends with what to do"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--data", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--data", "DATA", "--max_prompt_tokens", "5"], "expected at most 5 prompt tokens"),
        (["--data", "DATA", "--reward", "acuracy"], "did you mean 'accuracy'"),
        (["--data", "DATA", "--model_name_or_path", "./nowhere"], "--model_name_or_path ./nowhere: no such folder"),
        (["--data", "DATA", "--config", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--data", "DATA", "--group_sharing", "yes"], "--group_sharing expects one of auto, passes, off"),
        (
            ["--data", "DATA", "--num_generations", "3"],
            "is not a multiple of --num_generations 3; set --num_generations",
        ),
        (["--data", "DATA", "--reward_weights", "1"], "--reward_weights expects one number for each of the 2 rewards"),
        (["--data", "DATA", "--dataloader_num_workers", "2"], "--image_threads"),
        (["--data", "DATA", "--gradient_accumulation_steps", "4"], "2 training prompts, but one generation takes 8"),
        (["--data", "DATA", "--resume_from_checkpoint", "latest"], "contains no whole checkpoint"),
        (["--data", "DATA", "--image_root", "a", "b"], "got 2"),
        (["--data", "DATA", "--output_dir", "DATA"], "is a file; name a folder"),
        (["--data", "DATA", "--output_dir", "/proc/out"], "/proc/out: expected a folder that can be written"),
        (["--data", "DATA", "--lora_target_modules", "nowhere", "--use_peft"], "nowhere"),
        (["--data", "DATA", "--num_generation", "2"], "did you mean --num_generations?"),
        (["--data", "DATA", "--data-format", "swfit"], "got 'swfit'; did you mean swift?"),
    ],
)
def test_bad_options_are_one_line(options, write_rows, capsys, arguments, expected):
    data = str(write_rows([1, 1]))
    code = main([*options, *(data if argument == "DATA" else argument for argument in arguments)])
    error = capsys.readouterr().err.strip()
    assert (code, len(error.splitlines())) == (2, 1), error
    assert expected in error


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (
            ["--max_prompt_tokens", "60"],
            r"rows\.jsonl:3 \(id row-2\): expected at most 60 prompt tokens, got \d+, \d+ of them for 5 images; raise",
        ),
        (["--max_prompt_image_tokens", "4"], r"rows\.jsonl:3 \(id row-2\): .*at most 4 image tokens .* got \d+"),
    ],
)
def test_a_prompt_over_the_limit_ends_the_run_before_the_model_is_loaded(
    options, write_rows, tmp_path, capsys, limit, expected
):
    data = write_rows([1, 0, 5])
    assert main([*options, "--data", str(data), "--reward", "format", *limit]) == 2
    output = capsys.readouterr()
    assert re.search(expected, output.err), output.err
    assert "steps" not in output.out
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_steps_on_a_sharegpt_file(options, tmp_path, capsys):
    Image.new("RGB", (70, 60), (10, 120, 200)).save(tmp_path / "a.jpg")
    record = {
        "messages": [
            {"content": "<image>Who are they?", "role": "user"},
            {"content": "Two players.", "role": "assistant"},
            {"content": "What are they doing?<image>", "role": "user"},
            {"content": "Celebrating.", "role": "assistant"},
        ],
        "images": ["a.jpg", "a.jpg"],
    }
    path = tmp_path / "own.json"
    path.write_text(json.dumps([record, record]))
    assert main([*options, "--data", str(path), "--reward", "format", "repetition"]) == 0, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not LLAMA_FACTORY_SAMPLE.is_file(), reason="the sample of another project is not beside this one")
def test_two_steps_on_the_llama_factory_sample(options, capsys):
    budget = ["--min_pixels", "784", "--max_pixels", "12544"]
    code = main([*options, "--data", str(LLAMA_FACTORY_SAMPLE), "--reward", "format", "repetition", *budget])
    assert code == 0, capsys.readouterr().err


@pytest.mark.slow
def test_images_elsewhere_are_read_where_their_folder_is_allowed(options, tmp_path, capsys):
    """By a path and by an address of this machine, which is a path; that addresses may be asked for opens no folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    Image.new("RGB", (56, 56), "red").save(folder / "a.png")
    turns = [{"from": "human", "value": "<image> ?"}, {"from": "gpt", "value": "red"}]
    by_path, by_address = (
        json.dumps({"image": [place], "conversations": turns}) + "\n"
        for place in (f"{folder}/a.png", f"file://{folder}/a.png")
    )
    (tmp_path / "data").mkdir()
    data = tmp_path / "data" / "rows.jsonl"
    command = [*options, "--data", str(data), "--image_root", str(data.parent)]
    for rows, allowed, refused in (
        (by_path + by_address, ["--allow_remote"], "the path leads out of the image root"),
        (by_address + by_path, ["--allow_remote"], "the path leads out of the image root"),
        (by_address + by_path, [], "the path leads out of the image root"),
    ):
        data.write_text(rows)
        assert main([*command, *allowed]) == 2
        said = capsys.readouterr().err
        assert "rows.jsonl:1: image 1 of 1" in said
        assert refused in said
    assert main([*command, "--allow_outside", str(folder)]) == 0, capsys.readouterr().err
    assert "data:image/png;base64" in (tmp_path / "out" / "report.html").read_text()
