"""Models that TRL loads by their names, and those that scripts load themselves, are checked as those of a command."""

import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, Qwen2Config, Qwen2ForCausalLM
from triptych_data import read_examples
from triptych_trainer.demo import build_model, build_tokenizer
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.models.whole import only_whole_models, warn_of_made_up_weights
from triptych_trainer.prompts.example_table import ExampleTable
from trl import GRPOConfig


@pytest.fixture
def broken(model_dir, tmp_path):
    """A model folder without one weight."""
    folder = shutil.copytree(model_dir, tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    del weights[next(key for key in sorted(weights) if key.endswith("layers.0.mlp.up_proj.weight"))]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def trainer_of(model, data, folder, *, rewards=len):
    args = GRPOConfig(
        str(folder / "out"), per_device_train_batch_size=2, num_generations=2, report_to="none", bf16=False
    )
    return MultiImageGRPOTrainer(model, rewards, args=args, train_dataset=ExampleTable(list(read_examples(data))))


def test_a_model_given_by_its_name_is_refused_without_all_of_its_weights(broken, write_rows, tmp_path):
    with pytest.raises(UsageError, match=rf"the model {broken}: .*up_proj.weight of Qwen2_5_VL.* is not in its files"):
        trainer_of(str(broken), write_rows([1]), tmp_path)


def test_a_reward_model_without_its_head_is_refused(model_dir, write_rows, tmp_path):
    tokenizer = build_tokenizer()
    sizes = dict.fromkeys(("hidden_size", "intermediate_size"), 16)
    heads = dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads"), 1)
    Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), **sizes, **heads)).save_pretrained(tmp_path / "rewards")
    tokenizer.save_pretrained(tmp_path / "rewards")
    with pytest.raises(UsageError, match=r"the model .*rewards: score.weight of Qwen2ForSequenceClassification is not"):
        trainer_of(str(model_dir), write_rows([1]), tmp_path, rewards=str(tmp_path / "rewards"))


def test_a_model_that_a_script_loaded_without_all_of_its_weights_is_warned_of(broken):
    model = AutoModelForImageTextToText.from_pretrained(broken)
    said = r"up_proj.weight of this Qwen2_5_VL\w+ did not come from its files, while its other weights did; if you did"
    for found in (model, get_peft_model(model, LoraConfig(target_modules=["q_proj"]))):
        with pytest.warns(UserWarning, match=said):
            warn_of_made_up_weights(found)


@pytest.mark.parametrize(
    "changed",
    [
        lambda model: model,
        lambda model: model.to(torch.bfloat16),
        lambda model: get_peft_model(model, LoraConfig(target_modules=["q_proj"], modules_to_save=["norm"])),
        lambda model: model.resize_token_embeddings(1000) and model,
    ],
    ids=["as loaded", "cast", "new adapters", "resized"],
)
def test_nothing_is_said_of_a_whole_model(model_dir, changed):
    with only_whole_models():
        model = AutoModelForImageTextToText.from_pretrained(model_dir)
    warn_of_made_up_weights(changed(model))


def test_nothing_is_said_of_a_model_that_was_built_from_its_config():
    warn_of_made_up_weights(build_model(0))
