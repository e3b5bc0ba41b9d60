"""Answers that no completion can meet are refused before a run, by `check` and by `train` in the same words."""

import json

import pytest
from triptych_data import DataError, read_examples
from triptych_trainer.cli import main as triptych
from triptych_trainer.commands.train import main as train
from triptych_trainer.errors import UsageError
from triptych_trainer.prompts.expected import answer_checks, check_answer, look_at_answers
from triptych_trainer.rewards import guarded, load_reward

RUN = [
    *("--num_generations", "2", "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1"),
    *("--max_completion_length", "2", "--max_steps", "1", "--save_strategy", "no"),
    *("--no_rollouts", "--no_memory_forecast", "--quiet"),
]


@pytest.fixture
def boxes(tmp_path, write_rows):
    """Rows of one image each of 56 x 56 pixels, with these answers."""
    example = read_examples(write_rows([1]))[0]

    def write(*answers):
        rows = [
            {"id": k, "problem": "<image> where?", "images": [str(example.images[0])], "answer": answer}
            for k, answer in enumerate(answers)
        ]
        path = tmp_path / "boxes.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path, example.images[0].root

    return write


def checked(example, *specs):
    checks = answer_checks([guarded(load_reward(spec)) for spec in specs])
    check_answer(example, [(56, 56)], [(28, 28)], checks=checks)


def test_the_reason_and_the_remedy_are_apart(boxes):
    path, root = boxes("[0, 0, 50, 50]")
    example = read_examples(path, image_root=root)[0]
    with pytest.raises(DataError) as caught:
        checked(example, "format", "iou")
    assert (caught.value.kind, caught.value.source) == ("answer", example.source)
    assert caught.value.reason.startswith(
        "the expected box [0, 0, 50, 50] lies outside image 1, which is 28 x 28 in the"
    )
    assert caught.value.remedy == 'state the frame that fits, answer_frame="source", or correct the answer'
    checked(example, "format", 'iou(answer_frame="source")')


def test_sizes_that_no_model_told_are_not_compared_with(boxes):
    path, root = boxes("[0, 0, 9000, 50]")
    example = read_examples(path, image_root=root)[0]
    check_answer(example, [(56, 56)], [None], checks=answer_checks([load_reward("iou")]))


def test_rewards_get_lists_of_answers_as_lists(boxes):
    path, root = boxes(["12", "twelve"], [])
    one, none = read_examples(path, image_root=root)
    checked(one, "accuracy")
    with pytest.raises(DataError, match="contains no text that a completion could meet"):
        checked(none, "accuracy")


def test_check_and_train_refuse_the_same_row(boxes, model_dir, tmp_path, capsys):
    path, root = boxes("[0, 0, 50, 50]", "[30, 30, 20, 50]", "[0, 0, 90, 50]")
    spec, where = 'iou(answer_frame="source")', ["--image_root", str(root)]
    assert triptych(["check", str(path), "--reward", spec, *where]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "3 rows, 1 pass, 2 would be refused" in said
    run = ["--model", str(model_dir), "--data", str(path), *where, "--reward", spec, *RUN]
    assert train([*run, "--output_dir", str(tmp_path / "out")]) == 2
    refused = " ".join(capsys.readouterr().err.split()).partition("boxes.jsonl:2")[2].partition("; to list")[0]
    assert "the expected box [30, 30, 20, 50] has no area in the frame 'source' (answer_frame)" in refused
    assert refused.strip() in said


def test_check_takes_the_size_that_the_model_sees_with_a_model(boxes, model_dir, capsys):
    path, root = boxes("[0, 0, 50, 50]")
    command = ["check", str(path), "--reward", "iou", "--image_root", str(root), "--model", str(model_dir)]
    assert triptych([*command, "--max_pixels", "1568"]) == 1
    assert "lies outside image 1, which is 28 x 28" in " ".join(capsys.readouterr().out.split())
    assert triptych(command) == 0


@pytest.mark.slow
def test_skipped_rows_are_listed(boxes, model_dir, tmp_path):
    path, root = boxes("[0, 0, 50, 50]", "[30, 30, 20, 50]")
    out = tmp_path / "out"
    command = ["--model", str(model_dir), "--data", str(path), "--image_root", str(root), "--reward", "iou", *RUN]
    assert train([*command, "--output_dir", str(out), "--on_bad", "skip", "--max_bad", "1"]) == 0
    (entry,) = (json.loads(line) for line in (out / "quarantine.jsonl").read_text(encoding="utf-8").splitlines())
    assert (entry["kind"], entry["remedy"]) == ("answer", "write [left, top, right, bottom]")


def test_an_unknown_reward_is_one_line(boxes, capsys):
    path, _ = boxes("x")
    assert triptych(["check", str(path), "--reward", "iouu"]) == 2
    assert "--reward: unknown reward 'iouu' (did you mean 'iou'?)" in capsys.readouterr().err


@pytest.mark.parametrize("spec", ["model:", "model:/no/where"])
def test_a_reward_model_that_cannot_be_one_is_refused_before_a_run(spec):
    with pytest.raises(UsageError, match=f"--reward: {spec}"):
        look_at_answers([spec])
