"""`train` on a folder of every family, with its whole processor and a few rows: it starts, learns and ends."""

import json
from contextlib import nullcontext

import pytest
import torch
from transformers import AutoModelForImageTextToText
from triptych_trainer.commands.train import main
from triptych_trainer.forward import SharingWarning
from triptych_trainer.models.families import family_of

IMAGES = (2, 0, 1, 3)


@pytest.fixture(scope="module")
def folder_of(kit_of, tmp_path_factory):
    """A family's folder as a user would name it: weights, processor, tokenizer and chat template."""

    def folder_of(name):
        folder = tmp_path_factory.mktemp(name)
        kit = kit_of(name)
        kit.stock.save_pretrained(folder)
        kit.processor.save_pretrained(folder)
        return folder

    return folder_of


@pytest.fixture(scope="module")
def rows(kits, tmp_path_factory):
    """Write rows with the given numbers of images."""
    base = tmp_path_factory.mktemp("rows")
    for number, picture in enumerate(kits.pictures(4)):
        picture.save(base / f"{number}.png")

    def write(counts):
        path = base / f"{'-'.join(map(str, counts))}.jsonl"
        lines = [
            {
                "id": f"row-{row}",
                "images": [f"{(row + k) % 4}.png" for k in range(count)],
                "problem": "".join(f"Part {k + 1} <image> . " for k in range(count)) + "Which one?",
                "solution": "red",
            }
            for row, count in enumerate(counts)
        ]
        path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        return path

    return write


@pytest.fixture
def order(tmp_path):
    """A reward that differs within every group, whatever is sampled."""
    path = tmp_path / "rewards.py"
    path.write_text("def order(completions, **columns):\n    return [float(k) for k in range(len(completions))]\n")
    return f"{path}:order"


def run(folder, data, reward, out):
    """The exit code of a run of one step."""
    return main(
        [
            *("--model_name_or_path", str(folder), "--data", str(data), "--output_dir", str(out)),
            *("--reward", reward, "--max_steps", "1", "--learning_rate", "1e-2", "--max_completion_length", "4"),
            *("--num_generations", "2", "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2"),
            *("--save_strategy", "no", "--memory_forecast", "False", "--bf16", "False"),
        ]
    )


def test_a_run_starts_learns_and_ends(kit, family_name, folder_of, rows, order, tmp_path, capsys):
    counts = IMAGES if kit.case.text_only else [count or 1 for count in IMAGES]
    plain = family_of(kit.stock).path == "plain"
    with pytest.warns(SharingWarning, match="once per completion") if plain else nullcontext():
        code = run(folder_of(family_name), rows(counts), order, tmp_path / "out")
    assert code == 0, capsys.readouterr().err[-2000:]
    trained = AutoModelForImageTextToText.from_pretrained(tmp_path / "out").state_dict()
    before = kit.stock.state_dict()
    moved = [name for name, values in trained.items() if not torch.equal(values, before[name].to(values.dtype))]
    assert all(torch.isfinite(trained[name]).all() for name in moved)
    assert len(moved) > len(before) / 2


def test_a_row_without_images_is_refused_where_the_model_needs_one(folder_of, rows, order, tmp_path, capsys):
    code = run(folder_of("paligemma"), rows((1, 0, 1, 2)), order, tmp_path / "out")
    said = capsys.readouterr().err
    assert code == 2
    assert "row-1" in said
    assert "Traceback" not in said
