"""LoRA on the language model by default, a frozen tower, and a learning rate of the tower's own."""

import importlib.util
import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig
from triptych_trainer.commands.train import main
from triptych_trainer.demo import build_model
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.trl.named_model import check_trains_quantized
from triptych_trainer.models.adapters import adapter_config, check_quantization
from triptych_trainer.models.load import load_model
from trl import GRPOConfig, ModelConfig


@pytest.fixture
def command(model_dir, write_rows, tmp_path):
    """A command line that trains two tiny steps on one and two images."""
    reward = tmp_path / "own.py"
    reward.write_text("def first(completion_ids, **columns):\n    return [float(ids[0]) for ids in completion_ids]\n")
    return [
        *("--model_name_or_path", str(model_dir), "--output_dir", str(tmp_path / "out"), "--max_steps", "2"),
        *("--per_device_train_batch_size", "4", "--num_generations", "2", "--max_completion_length", "4"),
        *("--data", str(write_rows([1, 2])), "--reward", f"{reward}:first", "--learning_rate", "1e-2"),
        *("--memory_forecast", "false"),
    ]


@pytest.mark.slow
def test_adapters_are_trained_saved_and_loaded_back(command, model_dir, tmp_path):
    assert main([*command, "--use_peft", "--lora_r", "4", "--beta", "0.1"]) == 0
    out = tmp_path / "out"
    assert not (out / "model.safetensors").exists()
    assert "language_model" in json.loads((out / "adapter_config.json").read_text())["target_modules"]
    base = AutoModelForImageTextToText.from_pretrained(model_dir)
    plain = base(input_ids=torch.tensor([[8, 9, 10]])).logits.detach()
    loaded = PeftModel.from_pretrained(base, out)
    adapted = [name for name, _ in loaded.named_parameters() if "lora_" in name]
    assert len(adapted) == 2 * 2 * 7, "A and B of seven linear layers in each of two language layers"
    assert all(".language_model." in name for name in adapted)
    assert not torch.allclose(loaded(input_ids=torch.tensor([[8, 9, 10]])).logits, plain, atol=1e-4)


@pytest.mark.parametrize(("freeze", "towers"), [(False, {True, False}), (True, {False})])
def test_named_targets_reach_the_tower_unless_it_is_frozen(freeze, towers):
    model = build_model(0)
    config = ModelConfig(use_peft=True, lora_target_modules=["q_proj", "qkv"])
    adapted = get_peft_model(model, adapter_config(config, model, freeze_vision=freeze))
    assert {"visual" in name for name, values in adapted.named_parameters() if values.requires_grad} == towers


def test_targets_that_are_all_frozen_are_refused():
    """PEFT's sentence named none of the two options."""
    model = build_model(0)
    said = "qkv: none of these is in the language model, and --freeze_vision_modules leaves the rest as it is; name lay"
    for targets in (["qkv"], ".*visual.*qkv"):
        with pytest.raises(UsageError, match=said):
            adapter_config(ModelConfig(use_peft=True, lora_target_modules=targets), model, freeze_vision=True)


def test_one_named_target_is_a_name_and_no_pattern():
    model = build_model(0)
    config = ModelConfig(use_peft=True, lora_target_modules=["q_proj"])
    adapted = get_peft_model(model, adapter_config(config, model))
    names = [name for name, values in adapted.named_parameters() if values.requires_grad]
    assert names
    assert all(".q_proj." in name for name in names)


def test_no_adapters_unless_asked_for():
    assert adapter_config(ModelConfig(), build_model(0)) is None


@pytest.mark.slow
def test_a_tower_without_adapters_runs_once_for_all_passes(make_trainer, write_rows):
    lora = adapter_config(ModelConfig(use_peft=True), build_model(0))
    trainer = make_trainer(
        write_rows([0, 1, 2, 5]), peft_config=lora, beta=0.1, num_iterations=2, max_steps=2, verify_model=False
    )
    encoded = []
    tower = trainer.model.get_base_model().model.visual
    tower.register_forward_pre_hook(lambda m, args, kwargs: encoded.append(len(kwargs["grid_thw"])), with_kwargs=True)
    trainer.train()
    assert encoded == [6, 6], (
        "6 different pictures: once as the policy, once as the reference with adapters switched off"
    )


@pytest.mark.slow
def test_freeze_vision_modules_keeps_the_tower(command, model_dir, tmp_path):
    assert main([*command, "--freeze_vision_modules", "true"]) == 0
    before = AutoModelForImageTextToText.from_pretrained(model_dir).state_dict()
    after = AutoModelForImageTextToText.from_pretrained(tmp_path / "out").state_dict()
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved
    assert not any("visual" in name for name in moved)


@pytest.mark.slow
def test_the_tower_has_its_own_learning_rate(make_trainer, write_rows):
    updates = []
    for rate in (None, 0.005):
        trainer = make_trainer(
            write_rows([1, 2, 3, 1]),
            vision_learning_rate=rate,
            optim="sgd",
            learning_rate=0.02,
            lr_scheduler_type="linear",
            max_steps=1,
            warmup_steps=0,
            weight_decay=0.1,
            max_grad_norm=0.0,
        )
        before = {name: values.clone() for name, values in trainer.model.named_parameters()}
        trainer.train()
        updates.append({name: values.detach() - before[name] for name, values in trainer.model.named_parameters()})
    usual, slower = updates
    for name, update in usual.items():
        factor = 0.25 if "visual" in name else 1.0
        torch.testing.assert_close(slower[name], factor * update, atol=1e-7, rtol=1e-3)
    assert max(update.abs().max() for name, update in usual.items() if "visual" in name) > 1e-4
    decays = {(group["initial_lr"], group["weight_decay"]) for group in trainer.optimizer.param_groups}
    assert decays == {(0.02, 0.1), (0.02, 0.0), (0.005, 0.1), (0.005, 0.0)}


def test_a_learning_rate_for_a_frozen_tower_is_refused(command, capsys):
    assert main([*command, "--freeze_vision_modules", "true", "--vision_learning_rate", "1e-5"]) == 2
    assert "no parameter of the vision tower is trained" in capsys.readouterr().err


def test_quantized_weights_want_adapters():
    with pytest.raises(UsageError, match=r"--load_in_4bit: .* add --use_peft"):
        check_quantization(ModelConfig(load_in_4bit=True))
    check_quantization(ModelConfig(use_peft=True))


def test_quantization_without_bitsandbytes_is_one_sentence(command, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else found(name, *a)
    )
    assert main([*command, "--use_peft", "--load_in_4bit"]) == 2
    assert "needs bitsandbytes, which is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("bits", ["load_in_4bit", "load_in_8bit"])
def test_only_the_language_model_is_quantized(model_dir, bits):
    pytest.importorskip("bitsandbytes")
    model = load_model(str(model_dir), ModelConfig(use_peft=True, **{bits: True}))
    linear = {name: type(m).__name__ for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    inside = {kind for name, kind in linear.items() if name.startswith("model.language_model.")}
    outside = {kind for name, kind in linear.items() if not name.startswith("model.language_model.")}
    assert (inside, outside) == ({"Linear4bit" if bits == "load_in_4bit" else "Linear8bitLt"}, {"Linear"})
    full = AutoModelForImageTextToText.from_pretrained(model_dir).state_dict()
    for name, values in model.model.visual.named_parameters(prefix="model.visual"):
        assert torch.equal(values, full[name]), name


@pytest.fixture
def quantized_dir(model_dir, tmp_path):
    """A model folder whose weights were quantized before they were saved."""
    pytest.importorskip("bitsandbytes")
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
    folder = shutil.copytree(model_dir, tmp_path / "quantized")
    AutoModelForImageTextToText.from_pretrained(model_dir, quantization_config=settings).save_pretrained(folder)
    return folder


def test_a_folder_of_quantized_weights_is_not_quantized_again_nor_merged_into(quantized_dir, tmp_path):
    for option in ("load_in_4bit", "load_in_8bit"):
        with pytest.raises(UsageError, match=rf"--{option}: the weights of .* are quantized already \(bitsandbytes\)"):
            load_model(str(quantized_dir), ModelConfig(use_peft=True, **{option: True}))
    model = load_model(str(quantized_dir), ModelConfig(use_peft=True))
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path / "adapters")
    with pytest.raises(UsageError, match=r"--merge_adapter: the weights of .*adapters: base model .*; leave it out to"):
        load_model(str(tmp_path / "adapters"), ModelConfig(), merge_adapter=True)


def test_quantized_weights_without_adapters_are_refused_in_every_way_to_give_them(quantized_dir, model_dir, tmp_path):
    args = GRPOConfig(str(tmp_path / "run"), use_cpu=True, bf16=False)
    sampled = GRPOConfig(str(tmp_path / "run"), use_cpu=True, bf16=False, use_vllm=True)
    model = load_model(str(quantized_dir), ModelConfig(use_peft=True))
    for given, settings in (
        (str(quantized_dir), None),
        (model, None),
        (str(model_dir), BitsAndBytesConfig(load_in_8bit=True)),
    ):
        with pytest.raises(UsageError, match=r"the weights of .* are quantized \(bitsandbytes\) .*; add --use_peft"):
            check_trains_quantized(given, args, peft_config=None, quantization_config=settings)
        check_trains_quantized(given, args, peft_config=LoraConfig(), quantization_config=settings)
        with pytest.raises(
            UsageError, match=r"--use_vllm: the weights of .* are quantized \(bitsandbytes\), and adapters"
        ):
            check_trains_quantized(given, sampled, peft_config=LoraConfig(), quantization_config=settings)
    check_trains_quantized(str(model_dir), args, peft_config=None, quantization_config=None)


def adapters_of(folder):
    return load_file(folder / "adapter_model.safetensors")


@pytest.mark.slow
def test_a_qlora_run_goes_on_where_it_stopped(command, tmp_path):
    pytest.importorskip("bitsandbytes")
    command += ["--use_peft", "--load_in_4bit", "--lora_r", "4", "--max_steps", "4", "--beta", "0.1"]
    command += ["--num_iterations", "2", "--gradient_checkpointing", "true", "--save_steps", "3"]
    assert main(command) == 0
    whole = adapters_of(tmp_path / "out")
    trained = [name for name, values in whole.items() if "lora_B" in name and values.abs().max() > 0]
    assert len(trained) == 2 * 7, "seven linear layers in each of two language layers"
    log = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    command += ["--resume_from_checkpoint", str(tmp_path / "out" / "checkpoint-3")]
    (tmp_path / "out" / "adapter_model.safetensors").unlink()
    assert main(command) == 0
    resumed = adapters_of(tmp_path / "out")
    assert all(torch.equal(values, resumed[name]) for name, values in whole.items())
    again = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    losses = [[entry["loss"] for entry in entries if "loss" in entry] for entries in (log, again)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4
