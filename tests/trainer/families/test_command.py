"""`train` on a folder of every family, with its whole processor and a few rows: it starts, learns and ends.

Families of models that `examples/models` has files for start with these files, in one process.
"""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForImageTextToText
from triptych_trainer.forward.verify import SharingWarning
from triptych_trainer.models.families import family_of

IMAGES = (2, 0, 1, 3)
MODELS = Path(__file__).resolve().parents[3] / "examples" / "models"
NAMED = {
    "qwen2_5_vl": ("qwen2.5-vl-3b", "qwen2.5-vl-7b"),
    "qwen3_vl": ("qwen3-vl-4b", "qwen3-vl-8b"),
    "qwen3_5": ("qwen3.5-9b",),
    "internvl": ("internvl3.5-8b",),
    "gemma4_small": ("gemma-4-e4b",),
    "glm4v": ("glm-4.6v-flash",),
}
"""The families of the models with files; files of one family have the same options."""


def options_of(family, kind, folder):
    """The options of a file of the family's last model, written without those that name places and start processes."""
    places = ("model_name_or_path", "data", "image_root", "reward", "output_dir", "accelerate_config", "num_processes")
    options = yaml.safe_load((MODELS / NAMED[family][-1] / f"{kind}.yaml").read_text(encoding="utf-8"))
    path = folder / f"{kind}.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in options.items() if name not in places}))
    return ["--config", str(path)]


@pytest.mark.slow
def test_a_run_starts_learns_and_ends(kit, family_name, folder_of, rows, train, order, tmp_path, capsys, record):
    counts = IMAGES if kit.case.text_only else [count or 1 for count in IMAGES]
    plain = family_of(kit.stock).path == "plain"
    more = options_of(family_name, "eight-gpus", tmp_path) if family_name in NAMED else []
    with pytest.warns(SharingWarning, match="once per completion") if plain else nullcontext():
        code = train(folder_of(family_name), rows(counts), order, tmp_path / "out", *more)
    assert code == 0, capsys.readouterr().err[-2000:]
    trained = AutoModelForImageTextToText.from_pretrained(tmp_path / "out").state_dict()
    before = kit.stock.state_dict()
    moved = [name for name, values in trained.items() if not torch.equal(values, before[name].to(values.dtype))]
    assert all(torch.isfinite(trained[name]).all() for name in moved)
    assert len(moved) > len(before) / (4 if more else 2), "these files leave the vision tower as it is"
    record(command=True)


@pytest.mark.slow
@pytest.mark.parametrize("family", NAMED)
def test_the_file_for_one_gpu_starts(family, folder_of, rows, train, order, tmp_path, capsys):
    more = options_of(family, "one-gpu", tmp_path)
    code = train(folder_of(family), rows(IMAGES), order, tmp_path / "out", *more, "--bf16", "True", "--use_cpu", "True")
    assert code == 0, capsys.readouterr().err[-2000:]
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_every_model_with_files_has_a_family():
    named = sorted(name for names in NAMED.values() for name in names)
    assert named == sorted(path.name for path in MODELS.iterdir() if path.is_dir())


def test_a_row_without_images_is_refused_where_the_model_needs_one(folder_of, rows, train, order, tmp_path, capsys):
    code = train(folder_of("paligemma"), rows((1, 0, 1, 2)), order, tmp_path / "out")
    said = capsys.readouterr().err
    assert code == 2
    assert "row-1" in said
    assert "Traceback" not in said
