"""How runs begin in folders that hold something already: what goes on, what is refused, what is moved aside."""

import importlib.metadata
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from triptych_trainer.checkpoints.folder import checkpoints, run_id_of
from triptych_trainer.checkpoints.lock import LOCK, output_lock
from triptych_trainer.commands.train import main
from triptych_trainer.rollouts.read import read_visits

pytestmark = pytest.mark.slow  # every test trains, several of them twice

REWARD = """
def variety(completions, **columns):
    return [float(len(set(completion[0]["content"]))) for completion in completions]
"""


@pytest.fixture(scope="module")
def begin(model_dir, tmp_path_factory):
    """Run `train` on four prompts without images in a folder; returns its exit code."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "variety.py").write_text(REWARD)
    turns = [{"from": "human", "value": "Which ?"}, {"from": "gpt", "value": "red"}]
    rows = [json.dumps({"id": f"row-{k}", "conversations": turns}) for k in range(4)]
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")

    def run(*options, out):
        return main(
            [
                *("--model_name_or_path", str(model_dir), "--data", str(folder / "rows.jsonl")),
                *("--reward", f"{folder / 'variety.py'}:variety", "--num_generations", "2", "--save_steps", "2"),
                *("--per_device_train_batch_size", "4", "--max_completion_length", "6", "--learning_rate", "1e-3"),
                *("--memory_forecast", "false", "--num_iterations", "2", "--output_dir", str(out), *options),
            ]
        )

    return run


@pytest.fixture
def train(begin, tmp_path, capsys):
    """Run `train` in a folder of this test; returns exit code and what it said."""

    def run(*options, out="out"):
        code = begin(*options, out=tmp_path / out)
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.fixture(scope="module")
def finished_once(begin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "out"
    assert begin("--max_steps", "3", out=folder) == 0
    return folder


@pytest.fixture
def finished(finished_once, tmp_path):
    """A run of three steps with checkpoints of steps 2 and 3, inside its only epoch."""
    return shutil.copytree(finished_once, tmp_path / "out")


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def test_what_a_resumed_run_may_change_is_named_and_what_not_is_refused(train, finished, tmp_path):
    latest = ("--max_steps", "3", "--resume_from_checkpoint", "latest")
    before, log = weights(finished), (finished / "trainer_state.json").read_text()

    code, said = train(*latest)
    assert code == 0, said
    assert f"going on from {finished / 'checkpoint-3'}\n" in said
    assert f"nothing is left to do, {finished / 'checkpoint-3'} is after step 3 of 3; the result is written" in said
    assert "from here on" not in said, "no option is named that did not change"
    assert same(weights(finished), before)
    ends = [
        json.loads(text)["log_history"][-1]["train_loss"]
        for text in (log, (finished / "trainer_state.json").read_text())
    ]
    assert ends[0] == ends[1] != 0

    code, said = train(*latest, "--learning_rate", "1e-4", "--seed", "3", "--logging_steps", "2")
    assert code == 0, said
    assert "--learning_rate is 0.0001 from here on; checkpoint-3 was trained with 0.001\n" in said
    assert "--seed is 3 from here on; checkpoint-3 was trained with 42\n" in said
    assert "logging_steps" not in said, "it changes no weight"

    code, said = train(*latest, "--num_generations", "4")
    assert code == 2
    assert said.splitlines()[-1].startswith("train: error: ")
    assert "going on from" not in said
    assert f"--num_generations 4: {finished / 'checkpoint-3'} was trained with groups of 2 completions" in said

    rows = json.loads((finished / "run.json").read_text())["data"][0]["path"]
    other = tmp_path / "other.jsonl"
    other.write_text(Path(rows).read_text().replace("red", "sad"))
    code, said = train(*latest, "--data", str(other))
    assert code == 2
    assert f"--data: the training data are not those of {finished / 'checkpoint-3'}" in said
    moved = shutil.copy(rows, tmp_path / "moved.jsonl")
    assert train(*latest, "--data", str(moved))[0] == 0, "the same data elsewhere are the same data"
    assert same(weights(finished), before)
    assert not (finished / "_earlier-runs").exists()
    assert not (finished / LOCK).exists()


def test_a_checkpoint_with_other_bytes_is_passed_over_for_the_one_before_it(train, finished):
    expected = weights(finished)
    damaged = finished / "checkpoint-3" / "optimizer.pt"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    code, said = train("--max_steps", "3", "--resume_from_checkpoint", "latest")
    assert code == 0, said
    assert "checkpoint-3 is not whole and is passed over: optimizer.pt has the size that was written, but not" in said
    assert f"going on from {finished / 'checkpoint-2'}\n" in said
    assert same(weights(finished), expected)
    assert [folder.name for folder in checkpoints(finished)] == ["checkpoint-3", "checkpoint-2"]


def test_a_second_run_moves_the_first_aside_whole_and_neither_sees_the_other(train, finished, tmp_path):
    first_id, first_weights = json.loads((finished / "run.json").read_text())["id"], weights(finished)
    code, said = train("--max_steps", "2", "--seed", "3")
    assert code == 0, said
    aside = finished / "_earlier-runs" / first_id
    assert (
        f"{finished} contained run {first_id}, which is now in {aside}; to go on with it: --output_dir {aside} " in said
    )
    assert same(weights(aside), first_weights)
    assert not same(weights(finished), first_weights)
    assert [folder.name for folder in checkpoints(finished)] == ["checkpoint-2"]
    second_id = json.loads((finished / "run.json").read_text())["id"]
    assert run_id_of(finished / "checkpoint-2") == second_id != first_id
    assert [folder.name for folder in checkpoints(aside)] == ["checkpoint-3", "checkpoint-2"]
    assert {run_id_of(folder) for folder in checkpoints(aside)} == {first_id}
    assert [{visit.step for visit in read_visits(folder)} for folder in (finished, aside)] == [{0}, {0, 2}]

    code, said = train("--max_steps", "3", "--resume_from_checkpoint", "latest", out=f"out/_earlier-runs/{first_id}")
    assert code == 0, said
    assert f"going on from {aside / 'checkpoint-3'}\n" in said
    assert json.loads((aside / "run.json").read_text())["id"] == first_id
    assert same(weights(aside), first_weights)


def test_a_run_goes_back_to_an_earlier_checkpoint_of_its_own(train, finished):
    first_id = json.loads((finished / "run.json").read_text())["id"]
    code, said = train("--max_steps", "2", "--resume_from_checkpoint", str(finished / "checkpoint-2"))
    assert code == 0, said
    aside = finished / "_earlier-runs" / f"{first_id}-after-step-2" / "checkpoint-3"
    assert f"checkpoint-3 is later than checkpoint-2, which the run goes on from; it is now {aside}\n" in said
    assert [folder.name for folder in checkpoints(finished)] == ["checkpoint-2"]
    assert {visit.step for visit in read_visits(finished)} == {0}, "steps that are taken again are not reported twice"
    assert json.loads((finished / "run.json").read_text())["id"] == first_id


def test_a_run_from_the_checkpoint_of_another_folder_is_a_run_of_its_own(train, finished, tmp_path):
    checkpoint = finished / "checkpoint-2"
    code, said = train("--max_steps", "3", "--resume_from_checkpoint", str(checkpoint), out="branch")
    assert code == 0, said
    record = json.loads((tmp_path / "branch" / "run.json").read_text())
    assert record["id"] != json.loads((finished / "run.json").read_text())["id"]
    assert record["resumed_from"] == str(checkpoint)
    assert same(weights(tmp_path / "branch"), weights(finished))


def test_the_checkpoint_of_another_run_is_not_the_latest(train, finished, tmp_path):
    assert train("--max_steps", "2", "--seed", "3", out="other")[0] == 0
    shutil.copytree(tmp_path / "other" / "checkpoint-2", finished / "checkpoint-9")
    code, said = train("--max_steps", "3", "--resume_from_checkpoint", "latest")
    assert code == 0, said
    assert "checkpoint-9 belongs to run " in said
    assert f"going on from {finished / 'checkpoint-3'}\n" in said
    assert [folder.name for folder in checkpoints(finished)] == ["checkpoint-3", "checkpoint-2"]
    other = run_id_of(tmp_path / "other" / "checkpoint-2")
    assert (finished / "_earlier-runs" / other / "checkpoint-9").is_dir()


def test_replaced_images_are_refused_before_the_model_is_loaded(train, write_rows, tmp_path):
    data = ("--data", str(write_rows([1, 2, 1, 1])), "--num_iterations", "1")
    assert train(*data, "--max_steps", "2")[0] == 0
    Image.new("RGB", (56, 56), "pink").save(tmp_path / "0.png")
    code, said = train(*data, "--max_steps", "3", "--resume_from_checkpoint", "latest")
    assert code == 2
    assert "other bytes or sizes of 1 image, the first is 0.png of " in said
    assert "put back the files, or train on from its weights as a new run" in said


def test_other_code_and_another_processor_are_named(finished, train):
    manifest = finished / "checkpoint-2" / "checkpoint.json"
    content = json.loads(manifest.read_text())
    known = [name for name in sorted(content["run"]["sources"]) if not name.startswith("the version of ")]
    assert known == [
        "the code of variety.py",
        "the kind of device",
        "the processor (its settings, chat template or tokenizer)",
        "what accelerate is told in the environment",
    ]
    assert content["run"]["sources"]["the version of torch"] == importlib.metadata.version("torch")
    content["run"]["sources"] = dict.fromkeys(content["run"]["sources"], "0")
    manifest.write_text(json.dumps(content))
    code, said = train(
        "--max_steps", "3", "--resume_from_checkpoint", str(finished / "checkpoint-2"), out=finished.name
    )
    assert code == 0
    assert "the code of variety.py is not what checkpoint-2 was trained with, and is used as it is now" in said
    assert "the processor (its settings, chat template or tokenizer) is not what checkpoint-2 was trained with" in said
    assert "the kind of device is not what checkpoint-2 was trained with (cpu for 0), and is used as it is now" in said


def test_a_folder_in_use_and_a_folder_that_is_none_are_refused_before_anything_is_read(train, tmp_path):
    with output_lock(tmp_path / "out"):
        code, said = train("--max_steps", "1", "--data", "missing.jsonl")
    assert code == 2
    assert said.startswith(f"train: error: {tmp_path / 'out'} is in use by process ")
    assert said.count("\n") == 1
    (tmp_path / "file").touch()
    code, said = train("--max_steps", "1", "--data", "missing.jsonl", out="file/out")
    assert code == 2
    assert said.startswith(f"train: error: --output_dir {tmp_path / 'file' / 'out'}: {tmp_path / 'file'} is a file")
    assert said.count("\n") == 1


def test_the_model_that_a_run_starts_from_is_not_replaced_by_it(train, finished):
    code, said = train("--max_steps", "1", "--model_name_or_path", str(finished))
    assert code == 2
    assert f"the run would replace the model that it starts from, {finished}; name another --output_dir" in said
    assert (finished / "model.safetensors").is_file()


def test_an_empty_text_begins_no_new_run_in_the_folder(train, finished):
    code, said = train("--resume_from_checkpoint", "", out=finished.name)
    assert code == 2
    assert "--resume_from_checkpoint: expected a folder or `latest`, got an empty text; leave out the option" in said
    assert [folder.name for folder in checkpoints(finished)] == ["checkpoint-3", "checkpoint-2"]


def test_another_model_is_one_sentence(train, finished, model_dir, tmp_path):
    other = shutil.copytree(model_dir, tmp_path / "other_model")
    config = json.loads((other / "config.json").read_text())
    config["text_config"]["intermediate_size"] //= 2
    (other / "config.json").write_text(json.dumps(config))
    (other / "model.safetensors").unlink()
    Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config)).save_pretrained(other)
    code, said = train("--max_steps", "3", "--resume_from_checkpoint", "latest", "--model_name_or_path", str(other))
    assert code == 2
    error = next(line for line in said.splitlines() if "error:" in line)
    assert "checkpoint-3 contains another model than the one given: model.language_model.layers.0.mlp" in error
    assert "Traceback" not in said
