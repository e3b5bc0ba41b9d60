"""Options that a command would not read beside the others of its line: refused in one sentence, in every command."""

import json

import pyarrow.parquet as pq
import pytest
from triptych_data import DataError, read_examples
from triptych_trainer.cli import main
from triptych_trainer.rollouts.parts import FOLDER
from triptych_trainer.rollouts.record import SCHEMA, GroupRecord
from triptych_trainer.rollouts.write import RolloutWriter

READERS = ("check", "preview", "eval", "rollout", "plan", "train", "sft", "score")
"""The commands that read rows."""
HERE = ["--output_dir", "out", "--use_cpu", "--bf16", "false", "--report_to", "none"]


@pytest.fixture
def refusal(model_dir, write_rows, tmp_path, capsys, monkeypatch):
    """Runs a command with some options, and returns its one line."""
    monkeypatch.chdir(tmp_path)
    data = write_rows([1, 2])
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    for number, line in enumerate(lines):
        line.update(first=1, other="red", zero=number)
    data.write_text("\n".join(map(json.dumps, lines)) + "\n")

    def run(command, *words):
        model = [] if command in ("check", "preview", "score", "report") else ["--model", str(model_dir)]
        own = {"rollout": ["-o", "out"], "score": ["run"], "train": HERE, "sft": HERE}.get(command, [])
        rows = [] if command == "report" else ["--data", str(data)]
        assert main([command, *own, *model, *rows, *words]) == 2
        error = capsys.readouterr().err.strip()
        assert len(error.splitlines()) == 1, error
        return error

    return run


@pytest.mark.parametrize("command", [name for name in READERS if name != "score"])
def test_how_many_rows_may_be_skipped_needs_on_bad_skip(refusal, command):
    error = refusal(command, "--max_bad", "5")
    assert "--max_bad 5: without --on_bad skip no row may be skipped; add --on_bad skip, or leave" in error


@pytest.mark.parametrize("command", [name for name in READERS if name != "score"])
def test_a_folder_of_images_that_does_not_exist_is_refused(refusal, command):
    assert "--allow_outside nowhere: no such folder (looked from " in refusal(command, "--allow_outside", "nowhere")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["check", "--sft", "--reward", "format"], "--reward: conversations are trained on without rewards"),
        (["preview", "--sft", "--reward", "format"], "--reward: conversations are trained on without rewards"),
        (["eval", "--answer_frame", "source"], "--answer_frame: only the page shows it; add --html with a page"),
        (["eval", "--verdict", "accuracy"], "--verdict: only the page shows it; add --html with a page"),
        (
            ["eval", "--max_tool_calling_iterations", "2"],
            "--max_tool_calling_iterations: no calls are done; add --tools",
        ),
        (["rollout", "--max_tool_calling_iterations", "2"], "no calls are done; add --tools or --environment"),
        (["rollout", "--vllm_tensor_parallel_size", "2"], "only vLLM reads it; add --use_vllm, or leave it out"),
        (["rollout", "--use_vllm", "--verify_model", "off"], "--verify_model: the model is not compared where vLLM"),
        (["plan", "--sft", "--no_alternatives"], "--no_alternatives: a plan of sft forecasts memory and steps"),
        (["plan", "--device", "cpu", "--tflops", "1"], "--tflops: without --tflops and --memory_bandwidth, or --cal"),
        (["plan", "--device", "cpu", "--mean_completion_length", "2"], "no hours of a CPU are forecast; add them, or"),
        (["plan", "--device", "cpu", "--calibrate", "--mfu", "1"], "--mfu: --calibrate measures it; leave --calibrate"),
        (["score", "--max_bad", "5"], "there is no option --max_bad"),
        (["check", "--trust_remote_code"], "--trust_remote_code: no model is read; add --model, or leave it out"),
        (["train", "--mismatch_kl_limit", "0.1"], "--mismatch_kl_limit is read by nothing in this run; add --use_vllm"),
        (["train", "--rollout_seconds", "5"], "add --use_vllm --vllm_mode server, or leave it out"),
        (
            ["train", "--rollouts", "false", "--verdict", "format"],
            "--verdict is read by nothing in this run; write rollouts, or leave it out",
        ),
        (["train", "--memory_gib", "3", "--gradient_checkpointing", "true"], "; set --gradient_checkpointing auto, or"),
        (["train", "--memory_gib", "3", "--memory_forecast", "false"], "; set --memory_forecast true, or leave it out"),
        (["train", "--demo", "look", "--memory_gib", "3"], "; no run with tools is forecast, or leave it out"),
        (["train", "--group_sharing", "off", "--shared_attention", "varlen"], "; leave out --group_sharing off, or"),
        (["train", "--placement", "first"], "--placement is read by nothing in this run; run the first demo"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_nothing_reads_is_refused(refusal, words, expected):
    assert expected in refusal(*words)


@pytest.mark.parametrize("words", [["train"], ["plan"], ["plan", "--sft"], ["sft"]], ids=" ".join)
def test_an_attention_that_does_not_exist_is_refused_before_anything_is_loaded(refusal, words):
    error = refusal(*words, "--attn_implementation", "sdpaa")
    assert "--attn_implementation sdpaa: expected one of eager, " in error
    assert error.endswith("has the form owner/name; did you mean sdpa?")


@pytest.mark.parametrize(("column", "got"), [("other", "'red'"), ("zero", "0"), ("kind", "'1 images'")])
def test_the_position_of_an_answer_is_the_number_of_an_image(refusal, column, got):
    error = refusal("eval", "--position", column)
    assert f"--position {column}: expected the number of an image, from 1 to 1, in every row, got {got} in " in error
    assert "rows.jsonl:1 (id row-0); name another column" in error


def test_a_position_beyond_the_images_is_refused_with_its_row(model_dir, write_rows, capsys):
    data = write_rows([1, 2])
    data.write_text(
        data.read_text().replace('"kind": "1 images"', '"kind": 1').replace('"kind": "2 images"', '"kind": 3')
    )
    assert main(["eval", "--model", str(model_dir), "--data", str(data), "--position", "kind"]) == 2
    assert "from 1 to 2, in every row, got 3 in " in capsys.readouterr().err


def test_rollouts_without_a_group_are_refused(refusal, tmp_path):
    folder = tmp_path / "run" / FOLDER
    folder.mkdir(parents=True)
    pq.write_table(SCHEMA.empty_table(), folder / "step-00000001.parquet")
    for words in (["score"], ["report", "run"]):
        assert "run: the 1 files of rollouts in run/rollouts contain no group; name the output" in refusal(*words)


@pytest.mark.parametrize("command", READERS)
def test_an_empty_file_is_refused(refusal, tmp_path, command):
    (tmp_path / "empty.jsonl").write_text("")
    values = {"key": "a", "sample_id": "a", "prompt": [("user", ["?"])], "completions": ["b"]}
    scores = {"num_tokens": [1], "rewards": {"format": [1.0]}, "advantages": [None]}
    RolloutWriter(tmp_path / "run").write([GroupRecord(step=1, **values, **scores)])
    error = refusal(command, "--data", "empty.jsonl")
    assert "empty.jsonl: the file contains no rows; check that it was written" in error


def test_data_of_which_every_row_is_refused_is_no_table(write_rows):
    data = write_rows([1, 2])
    data.write_text(data.read_text().replace(".png", ".gone"))
    with pytest.raises(DataError, match="expected at most 1 refused rows of 2, got 2; the last: "):
        read_examples(data, on_bad="skip", max_bad=5)
    assert main(["check", str(data), "--on_bad", "skip", "--max_bad", "5"]) == 1
