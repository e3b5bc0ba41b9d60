"""A model folder that is damaged ends in one sentence; no weight of a model is made up."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from triptych_trainer.errors import UsageError
from triptych_trainer.models.load import load_model
from trl import ModelConfig


def without(weights, name):
    del weights[name]


def of_another_shape(weights, name):
    weights[name] = torch.zeros(3, 3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without, "up_proj.weight of .* is not in its files, and would"),
        (of_another_shape, "is of another shape in its"),
    ],
)
def test_a_weight_that_is_not_in_the_files_is_named(model_dir, tmp_path, damage, message):
    folder = tmp_path / "model"
    shutil.copytree(model_dir, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in sorted(weights) if key.endswith("layers.0.mlp.up_proj.weight"))
    damage(weights, name)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=message):
        load_model(str(folder), ModelConfig(dtype="float32"))


def test_a_file_that_was_cut_is_one_sentence(model_dir, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model_dir, folder)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(UsageError, match="no model can be loaded: Error while deserializing header"):
        load_model(str(folder), ModelConfig(dtype="float32"))
