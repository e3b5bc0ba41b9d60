"""A model folder that is damaged ends in one sentence; no weight of a model is made up."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, BertConfig
from triptych_trainer.errors import UsageError
from triptych_trainer.models.load import load_model, load_processor, model_without_weights
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
    with pytest.raises(
        UsageError, match="no model can be loaded: Error while deserializing header.*; name a whole folder"
    ):
        load_model(str(folder), ModelConfig(dtype="float32"))


def test_a_config_whose_values_do_not_fit_together_is_one_sentence(model_dir, tmp_path):
    folder = shutil.copytree(model_dir, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    message = r"num_hidden_layers` \(3\) must be equal to the number of `layer_types` \(2\)"
    with pytest.raises(UsageError, match=message):
        load_model(str(folder), ModelConfig())
    with pytest.raises(UsageError, match=message):
        load_processor(str(folder))


def test_a_vocabulary_without_the_padding_token_is_one_sentence(model_dir, tmp_path):
    folder = shutil.copytree(model_dir, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["vocab_size"] = 1
    config["text_config"]["pad_token_id"] = 5
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="no model can be loaded: Padding_idx must be within num_embeddings"):
        load_model(str(folder), ModelConfig())


@pytest.mark.slow
def test_a_config_from_which_no_model_can_be_built_is_one_short_sentence(model_dir):
    with pytest.raises(
        UsageError, match=r"^--model x: no model .* for this kind of .* none of the \d+ types for im"
    ) as found:
        model_without_weights(BertConfig(), trust_remote_code=False, option="--model x")
    assert len(str(found.value)) < 400
    sizes = AutoConfig.from_pretrained(model_dir)
    sizes.text_config.vocab_size, sizes.text_config.pad_token_id = 1, 5
    with pytest.raises(
        UsageError, match="--model x: no model can be built from its config: Padding_idx must be within"
    ):
        model_without_weights(sizes, trust_remote_code=False, option="--model x")
