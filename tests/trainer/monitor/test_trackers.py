"""Images reach the trackers in prompt order, as the model saw them; read back from what the real libraries wrote."""

import importlib.util
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from made_up import played, said
from PIL import Image
from triptych_data import load_image
from triptych_data.resize import resize
from triptych_trainer.grpo.trl.reports import show_images
from triptych_trainer.monitor.trackers import ImageLog, number_images

ROWS = [0, 1, 2]
OPTIONS = {"max_steps": 1, "per_device_train_batch_size": 6, "log_completions": True, "shuffle_dataset": False}


def as_seen(trainer, index):
    """The pixels that the model saw at each marker of an example, worked out from the files again."""
    prepared = trainer.prompt_of(index)
    pictures = [np.asarray(load_image(source)) for source in prepared.example.images]
    pictures = [resize(pixels, size) for pixels, size in zip(pictures, prepared.model_sizes, strict=True)]
    return [pictures[k] for k in prepared.example.prompt.image_order]


def pixels_of(path):
    return np.asarray(Image.open(path).convert("RGB"))


def assert_same_pictures(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def index_of(trainer, prompt):
    """The example with as many image parts as a logged prompt: the rows of this file differ in nothing else."""
    count = str(prompt).count("Part")
    return ROWS.index(count)


@pytest.mark.slow
def test_without_a_tracker_nothing_is_written(make_trainer, write_rows, tmp_path):
    trainer = make_trainer(write_rows(ROWS), **OPTIONS, report_to="none")
    trainer.train()
    assert trainer.tracker_images is None
    assert not (tmp_path / "out" / "completions" / "images").exists()


def test_rows_share_the_files_of_their_images_and_old_files_go(make_trainer, write_rows, tmp_path):
    trainer = make_trainer(write_rows([1, 2, 3, 5]), **{**OPTIONS, "per_device_train_batch_size": 8})
    trainer.args.report_to = ["tensorboard"]
    trainer.tracker_images = show_images(trainer)
    folder = tmp_path / "out" / "completions" / "images"
    prepared = [trainer.prompt_of(key) for key in range(4)]
    rows = trainer.tracker_images.gather([(prepared[k], said("red")) for k in (3, 3, 3, 3, 1, 1, 1, 1)])
    assert rows[0] == rows[3]
    assert len({path for row in rows for path in row.paths}) == len(list(folder.iterdir())) == 6
    assert_same_pictures([pixels_of(path) for path in rows[0].paths], as_seen(trainer, 3))
    trainer.tracker_images.gather([(prepared[0], said("red"))] * 8)
    assert len(list(folder.iterdir())) == 1


@pytest.fixture
def seen_turns(make_trainer, write_rows):
    """What trackers get of two rollouts of a prompt of two images: a blue image arrives in the first one."""
    trainer = make_trainer(write_rows([1, 2]), **{**OPTIONS, "per_device_train_batch_size": 4})
    trainer.args.report_to = ["tensorboard"]
    images = show_images(trainer)
    call = {"name": "zoom", "arguments": {"image": 1}}
    blue = Image.new("RGB", (84, 28), "blue")
    turns = [{"said": "look", "calls": [call], "returned": [["closer: ", blue]]}, {"said": "red"}]
    prompt = trainer.prompt_of(1)
    images.gather([(prompt, played(*turns)), (prompt, said("red"))])
    messages = prompt.example.prompt.messages()
    said_then = [
        {"role": "assistant", "content": "look", "tool_calls": [{"function": call}]},
        {"role": "tool", "name": "zoom", "content": [{"type": "text", "text": "closer: "}, {"type": "image"}]},
    ]
    logs = {"prompt": [messages] * 2, "completion": [said_then, said_then[:1]], "advantages": [0, 0]}
    logs["rewards"] = {"accuracy": [1.0, 0.0]}
    number_images(logs, num_rows=2)
    return logs, images.rows, [*as_seen(trainer, 1), np.asarray(blue)]


def test_images_that_arrived_follow_those_of_the_prompt_in_files_numbers_and_names(seen_turns):
    logs, rows, expected = seen_turns
    first, second = rows
    assert (len(first.prompt), len(first.turns), first.prompt, second.turns) == (2, 1, second.prompt, ())
    assert_same_pictures([pixels_of(path) for path in first.paths], expected)
    assert [message["content"] for message in logs["completion"][0]] == [
        'look\n[call of zoom: {"image": 1}]',
        "closer: [image 3]",
    ]
    log = ImageLog(logs, rows, callbacks=[])
    assert list(log._groups()) == [[0, 1]], "the rollouts of a prompt stay together"
    assert [name for name, _ in log._named(1, [0, 1])] == [
        *("prompt 1/image 1", "prompt 1/image 2"),
        "prompt 1/rollout 1/image 3",
    ]


def test_tensorboard_has_the_images_that_arrived_in_a_rollout(seen_turns, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    logs, rows, expected = seen_turns
    with SummaryWriter(str(tmp_path)) as writer:
        ImageLog(logs, rows, callbacks=[])._to_tensorboard(writer, step=1)
    read = EventAccumulator(str(tmp_path)).Reload()
    names = ["prompt 1/image 1", "prompt 1/image 2", "prompt 1/rollout 1/image 3"]
    assert read.Tags()["images"] == names
    pictures = [pixels_of(io.BytesIO(read.Images(name)[0].encoded_image_string)) for name in names]
    assert_same_pictures(pictures, expected)
    (event,) = read.Tensors("prompt 1/completions/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    assert 'look\n    [call of zoom: {"image": 1}]\n    tool: closer: [image 3]' in text


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_table_of_wandb_has_a_cell_for_every_image_that_arrived(seen_turns, tmp_path):
    import wandb

    logs, rows, expected = seen_turns
    table = ImageLog(logs, rows, callbacks=[])._table(wandb, step=1)
    assert table.columns == ["step", "prompt", "image 1", "image 2", "image 3", "completion", "accuracy", "advantage"]
    first, second = table.data
    assert_same_pictures([np.asarray(cell.image) for cell in first[2:5]], expected)
    assert second[4] is None
    assert "tool: closer: [image 3]" in first[5]


def test_the_order_is_that_of_the_markers(make_trainer, write_rows, tmp_path):
    write_rows([2])
    value = {"from": "human", "value": "After <image:2> before <image:1> again <image:2>"}
    row = {"id": "x", "image": ["0.png", "1.png"], "conversations": [value, {"from": "gpt", "value": "red"}]}
    (tmp_path / "order.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, "id": "y"}) + "\n")
    trainer = make_trainer(tmp_path / "order.jsonl", **{**OPTIONS, "per_device_train_batch_size": 4})
    trainer.args.report_to = ["tensorboard"]
    trainer.tracker_images = show_images(trainer)
    (row,) = trainer.tracker_images.gather([(trainer.prompt_of(0), said("red"))])
    paths = row.paths
    assert len(paths) == 3
    assert paths[0] == paths[2] != paths[1]
    assert_same_pictures([pixels_of(path) for path in paths], as_seen(trainer, 0))


@pytest.mark.slow
def test_tensorboard_has_each_prompt_with_its_images(make_trainer, write_rows, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = make_trainer(write_rows(ROWS), **OPTIONS, report_to="tensorboard")
    trainer.train()
    (events,) = (tmp_path / "out").rglob("events.out.tfevents*")
    read = EventAccumulator(str(events)).Reload()
    assert "train/reward" in read.Tags()["scalars"]
    texts = [tag for tag in read.Tags()["tensors"] if tag.startswith("prompt ")]
    assert texts == [f"prompt {k}/completions/text_summary" for k in (1, 2, 3)]
    seen = set()
    for k, tag in enumerate(texts, start=1):
        (event,) = read.Tensors(tag)
        text = event.tensor_proto.string_val[0].decode()
        index = index_of(trainer, text)
        seen.add(index)
        marks = [f"Part {j} [image {j}] ." for j in range(1, ROWS[index] + 1)]
        assert [mark for mark in marks if mark in text] == marks
        assert text.count("advantage") == 2
        assert "character_reward" in text
        images = [read.Images(f"prompt {k}/image {j}")[0] for j in range(1, ROWS[index] + 1)]
        assert f"prompt {k}/image {ROWS[index] + 1}" not in read.Tags()["images"]
        assert_same_pictures(
            [pixels_of(io.BytesIO(image.encoded_image_string)) for image in images], as_seen(trainer, index)
        )
    assert seen == {0, 1, 2}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_wandb_has_the_images_of_each_row_and_offline_those_of_each_prompt(
    make_trainer, write_rows, tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    import wandb

    trainer = make_trainer(write_rows(ROWS), **OPTIONS, report_to="wandb")
    trainer.train()
    (log,) = (callback for callback in trainer.callback_handler.callbacks if isinstance(callback, ImageLog))
    artifact = wandb.Artifact("rows", type="run_table")
    with artifact.new_file("saved") as saved:  # what an online run uploads
        json.dump(log._table(wandb, step=1).to_json(artifact), saved)
    wandb.finish()
    content = json.loads(Path(artifact.manifest.entries["saved"].local_path).read_text())
    local = {path: entry.local_path for path, entry in artifact.manifest.entries.items()}
    names = ["step", "prompt", "image 1", "image 2", "completion", "character_reward", "advantage"]
    assert content["columns"] == names
    assert len(content["data"]) == 6
    for row in content["data"]:
        cells = dict(zip(names, row, strict=True))
        found = [pixels_of(local[cells[f"image {k}"]["path"]]) for k in (1, 2) if cells[f"image {k}"]]
        assert_same_pictures(found, as_seen(trainer, index_of(trainer, cells["prompt"])))
        assert re.findall(r"\[image (\d)\]", cells["prompt"]) == [str(k + 1) for k in range(len(found))]
    assert len([path for path in local if path.endswith(".png")]) == 3, "once, not per completion"
    (kept,) = tmp_path.glob("wandb/offline-run-*/files/media/images")
    for number, rows in enumerate(log._groups(), start=1):
        paths = sorted((kept / f"prompt {number}").glob("*.png"))
        expected = as_seen(trainer, index_of(trainer, trainer._logs["prompt"][rows[0]]))
        assert_same_pictures([pixels_of(path) for path in paths], expected)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("trackio") is None, reason="trackio is not installed")
def test_the_table_of_trackio_has_the_images_of_each_row(model_dir, make_trainer, write_rows, tmp_path):
    data = write_rows(ROWS)
    options = ["--max_steps", "1", "--num_generations", "2", "--per_device_train_batch_size", "6", "--use_cpu", "True"]
    options += ["--max_completion_length", "6", "--log_completions", "--bf16", "False"]
    options += ["--memory_forecast", "false", "--report_to", "trackio", "tensorboard"]
    places = ["--model_name_or_path", str(model_dir), "--data", str(data), "--output_dir", str(tmp_path / "run")]
    run = subprocess.run(
        [sys.executable, "-m", "triptych_trainer", *places, *options, "--reward", "format", "--project", "p"],
        env={**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    trainer = make_trainer(data)
    with closing(sqlite3.connect(tmp_path / "trackio" / "p.db")) as database:
        stored = [json.loads(text) for (text,) in database.execute("select metrics from metrics order by step")]
    table = next(entry["completions"]["_value"] for entry in stored if "completions" in entry)
    assert len(table) == 6
    for row in table:
        found = [pixels_of(tmp_path / "trackio" / "media" / image["file_path"]) for image in row["image"] or []]
        assert_same_pictures(found, as_seen(trainer, index_of(trainer, row["prompt"])))
    assert list((tmp_path / "run").rglob("events.out.tfevents*")), "both trackers"
