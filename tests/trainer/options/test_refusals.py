"""Options that cannot hold are refused in one sentence that says what to set instead."""

import json
import re

import pytest
from triptych_trainer.commands.train import main
from triptych_trainer.demo import build_model
from triptych_trainer.errors import UsageError
from triptych_trainer.options.refusals import check_router_loss


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataloader_num_workers": 2}, "dataloader_num_workers 2: .* set --image_threads"),
        ({"use_transformers_continuous_batching": True}, "continuous_batching: .* without images"),
        ({"cast_lm_head_to_fp32": True}, "cast_lm_head_to_fp32: .* tied to its token embeddings"),
        ({"cache_implementation": "static"}, "cache_implementation static: .* leave it out"),
        ({"generation_kwargs": {"num_beams": 2}}, "--generation_kwargs num_beams: .* token by token.*; leave it out"),
        ({"generation_kwargs": {"cache_implementation": "static"}}, "--generation_kwargs cache_implementation: "),
        ({"generation_kwargs": {"top_kk": 3}}, r"--generation_kwargs top_kk: .*did you mean top_k\?"),
        ({"generation_kwargs": {"max_new_tokens": 3}}, "max_new_tokens: set --max_completion_length; leave it out"),
    ],
)
def test_options_are_refused(make_trainer, write_rows, options, message):
    with pytest.raises(UsageError, match=message):
        make_trainer(write_rows([1, 2]), **options)


VALUES = {
    "--max_steps 0": "--max_steps expects 1 or more, or -1 for as long as --num_train_epochs says, got 0",
    "--num_train_epochs 0 --max_steps -1": "--num_train_epochs expects a number above 0, got 0.0",
    "--learning_rate nan": "--learning_rate expects 0 or more, got nan",
    "--num_generations 0": "--num_generations expects 2 or more, got 0",
    "--per_device_train_batch_size 0": "--per_device_train_batch_size expects 1 or more, got 0",
    "--num_iterations 0": "--num_iterations expects 1 or more, got 0",
    "--temperature 0": "--temperature expects a number above 0, got 0.0",
    "--top_p 2": "--top_p expects a number above 0 and at most 1, got 2.0",
    "--top_k -1": "--top_k expects 0 or more, got -1",
    "--beta -1": "--beta expects 0 or more, got -1.0",
    "--adam_beta1 2": "--adam_beta1 expects a number from 0 to below 1, got 2.0",
    "--loss_type foo": "--loss_type expects one of grpo, dr_grpo, .*, got 'foo'",
    "--scale_rewards foo": "--scale_rewards expects one of group, batch, none, got 'foo'",
    "--reward_weights nan": "--reward_weights expects a number for each reward, got nan",
    "--label_smoothing_factor 0.1": "--label_smoothing_factor expects 0, because GRPO's loss has no labels",
    "--image_cache_gb nan": "--image_cache_gb expects 0 or more, got nan",
    "--vision_learning_rate -1": "--vision_learning_rate expects 0 or more, got -1.0",
    "--lora_r 4": "--lora_r says how new adapters are made, but none are; add --use_peft, or leave it out",
    '--chat_template_kwargs {"tokenize":true}': "--chat_template_kwargs tokenize: .*; leave it out",
}


@pytest.mark.parametrize("words", VALUES)
def test_a_value_that_cannot_hold_is_refused_before_anything_is_read(words, tmp_path, capsys):
    given = ["--model", "m", "--data", "d.jsonl", "--output_dir", str(tmp_path / "out")]
    assert main([*given, *words.split(" ")]) == 2
    assert re.match(f"train: error: {VALUES[words]}", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_sampling_arguments_are_taken(make_trainer, write_rows):
    options = {"top_p": 0.9, "no_repeat_ngram_size": 3, "repetition_penalty": 1.1}
    make_trainer(write_rows([1, 2, 0, 1]), generation_kwargs=options, max_steps=1).train()


@pytest.mark.parametrize(
    ("base", "named"), [("some/model", r"\(some/model\)"), (None, r"\(see its adapter_config.json\)")]
)
def test_new_adapters_on_adapters_are_refused_before_anything_is_loaded(tmp_path, capsys, base, named):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    assert main(["--model", str(tmp_path), "--data", "rows.jsonl", "--use_peft", "--output_dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(rf"train: error: --use_peft: .* holds adapters, .*{named} to begin new ones\n", error)


def test_a_load_balancing_loss_that_cannot_be_computed_is_refused():
    check_router_loss(None, completions_per_slice=4)
    model = build_model(0)  # it has no experts
    with pytest.raises(UsageError, match=r"does not tell where its routers are; set --router_aux_loss_coef 0"):
        check_router_loss(model, completions_per_slice=None)


@pytest.mark.parametrize("arguments", [[], ["--model_name_or_path", "m", "--data", "d.jsonl"]], ids=["demo", "data"])
def test_a_tracker_that_is_not_installed_is_said_before_anything_is_loaded(arguments, tmp_path, capsys):
    code = main([*arguments, "--report_to", "comet_ml", "--output_dir", str(tmp_path / "out"), "--bf16", "False"])
    assert code == 2
    assert capsys.readouterr().err == (
        "train: error: --report_to comet_ml: comet-ml is not installed; pip install comet-ml, or leave it out\n"
    )
    assert not (tmp_path / "out").exists()
