"""Options that cannot hold are refused in one sentence that says what to set instead."""

import json
import re
from types import SimpleNamespace

import pytest
from triptych_trainer.commands.train import main
from triptych_trainer.demo import build_model
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.trl.building import complete
from triptych_trainer.options import values
from triptych_trainer.options.refusals import (
    check_deepspeed,
    check_ends,
    check_head_dtype,
    check_num_prompts,
    check_options,
    check_router_loss,
)
from trl import GRPOConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataloader_num_workers": 2}, "dataloader_num_workers=2: .* threads of the ImageLoader"),
        ({"use_transformers_continuous_batching": True}, "continuous_batching: .* without images"),
        ({"cast_lm_head_to_fp32": True}, "cast_lm_head_to_fp32: .* tied to its token embeddings"),
        ({"cache_implementation": "static"}, "cache_implementation static: .* leave it out"),
        ({"lr_scheduler_kwargs": {"foo": 1}}, "lr_scheduler_type linear with lr_scheduler_kwargs .*: .*'foo'"),
        ({"optim": "lomo"}, "optim lomo: You need to install `lomo_optim`"),
        ({"generation_kwargs": {"num_beams": 2}}, "generation_kwargs num_beams: .* token by token.*; leave it out"),
        ({"generation_kwargs": {"cache_implementation": "static"}}, "generation_kwargs cache_implementation: "),
        ({"generation_kwargs": {"top_kk": 3}}, r"generation_kwargs top_kk: .*did you mean top_k\?"),
        ({"generation_kwargs": {"max_new_tokens": 3}}, "max_new_tokens: set max_completion_length; leave it out"),
    ],
)
def test_options_are_refused(make_trainer, write_rows, options, message):
    with pytest.raises(UsageError, match=message):
        make_trainer(write_rows([1, 2, 0, 1]), max_steps=1, **options).train()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"reward_funcs": 5}, "reward_funcs: expected functions, models or names of models, got 5; pass a function"),
        ({"reward_funcs": [len, 5]}, "reward_funcs: .* got 5"),
        ({"tools": 5}, "tools: expected a list of functions, got 5"),
        ({"environment_factory": 5}, "environment_factory: expected a class or a mapping of classes, got 5"),
        ({"peft_config": 5}, "peft_config: expected a configuration of PEFT, got 5"),
        ({"turns": 5}, "turns: expected TurnOptions, got 5"),
        ({"model": 5}, "model: expected the name of a model or a loaded model, got 5"),
    ],
)
def test_an_argument_of_another_kind_is_refused_by_its_name(tmp_path, given, message):
    arguments = GRPOConfig(str(tmp_path), use_cpu=True, bf16=False)
    usual = dict.fromkeys(("processing_class", "preparer", "tools", "rollout_func", "environment_factory"))
    with pytest.raises(UsageError, match=message):
        complete(**{"model": build_model(0), "reward_funcs": len, "args": arguments, **usual, **given})


def test_a_tied_head_is_refused_before_the_weights_are_read(tmp_path):
    build_model(0).config.save_pretrained(tmp_path)
    arguments = GRPOConfig(str(tmp_path), use_cpu=True, bf16=False, cast_lm_head_to_fp32=True)
    with pytest.raises(UsageError, match="head of this .* is tied to its token embeddings"):
        check_head_dtype(arguments, str(tmp_path))
    text = build_model(0).config.get_text_config()
    text.tie_word_embeddings = True
    text.save_pretrained(tmp_path)
    check_head_dtype(arguments, str(tmp_path))


def test_without_any_row_only_rows_help(tmp_path):
    arguments = GRPOConfig(str(tmp_path), use_cpu=True, bf16=False)
    with pytest.raises(UsageError, match="no step would be trained; add rows$"):
        check_num_prompts(0, arguments)


VALUES = {
    "--max_steps 0": "--max_steps expects 1 or more, or -1 for as long as --num_train_epochs says, got 0",
    "--num_train_epochs 0 --max_steps -1": "--num_train_epochs expects a number above 0, got 0.0",
    "--learning_rate nan": "--learning_rate expects 0 or more, got nan",
    "--num_generations 0": "--num_generations expects 2 or more, got 0",
    "--per_device_train_batch_size 0": "--per_device_train_batch_size expects 1 or more, got 0",
    "--num_iterations 0": "--num_iterations expects 1 or more, got 0",
    "--temperature 0": "--temperature expects a number above 0, got 0.0",
    "--top_p 2": "--top_p expects a number above 0 and at most 1, got 2.0",
    "--use_vllm --vllm_gpu_memory_utilization 2": "--vllm_gpu_memory_utilization expects a number above 0 and at",
    "--use_peft --lora_dropout 1": "--lora_dropout expects a number from 0 to below 1, got 1.0",
    "--top_k -1": "--top_k expects 0 or more, got -1",
    "--beta -1": "--beta expects 0 or more, got -1.0",
    "--adam_beta1 2": "--adam_beta1 expects a number from 0 to below 1, got 2.0",
    "--loss_type foo": "--loss_type expects one of grpo, dr_grpo, .*, got 'foo'",
    "--scale_rewards foo": "--scale_rewards expects one of group, batch, none, got 'foo'",
    "--vision_learning_rate 0": "--vision_learning_rate 0: no weight outside the language model would change; give a",
    "--learning_rate 1e-3 --weight_decay 1000": (
        "--weight_decay 1000: with --learning_rate 0.001 a step would take away 1 times every weight; give a smaller"
    ),
    "--learning_rate 0": "--learning_rate 0: no weight would change; give a number above 0, or leave it out",
    "--reward_weights 1e39": r"--reward_weights: 1e\+39 leaves nothing of a reward as float32; give",
    "--reward_weights=-1e-40": "--reward_weights: -1e-40 leaves nothing of a reward as float32",
    "--reward_weights 0": "--reward_weights: every weight is 0, so that nothing could be learned; give one above 0",
    "--top_k 1": "--top_k 1: the completions of a group would all be equal, so that nothing could be",
    "--min_p 1": "--min_p 1.0: the completions of a group would all be equal, so that nothing could be",
    "--remove_unused_columns true": "--remove_unused_columns: rewards would get no column of a row .*; leave it out",
    "--load_best_model_at_end true --save_strategy no": "--load_best_model_at_end is read by nothing in",
    "--chat_template_kwargs {bad": "--chat_template_kwargs expects a JSON object such as .*, got '{bad': Expecting",
    "--reward_weights nan": "--reward_weights expects a number for each reward, got nan",
    "--label_smoothing_factor 0.1": "--label_smoothing_factor expects 0, because GRPO's loss has no labels",
    "--image_cache_gb nan": "--image_cache_gb expects 0 or more, got nan",
    "--vision_learning_rate -1": "--vision_learning_rate expects 0 or more, got -1.0",
    "--lora_r 4": "--lora_r is read by nothing in this run; add --use_peft, or leave it out",
    "--eval_data d.jsonl": "--eval_data is read by nothing in this run; add --eval_strategy steps or epoch, or leave",
    "--data_seed -3": "--data_seed expects a whole number from 0 to 2\\*\\*32 - 1, got -3",
    "--bnb_4bit_quant_type fp4": "--bnb_4bit_quant_type is read by nothing in this run; add --load_in_4bit, or leave",
    '--model_init_kwargs {"dtype":"bfloat16"}': "--model_init_kwargs: the model is loaded with --dtype, .*; set those",
    '--accelerator_config {"foo":true}': "--accelerator_config 'foo': accelerate has no such entry; leave it out",
    "--eval_on_start true": "--eval_strategy, --eval_on_start: nothing is held out to evaluate on; add --eval_data",
    "--do_eval true": "--do_eval: set --eval_strategy steps or epoch, with --eval_data",
    '--chat_template_kwargs {"tokenize":true}': "--chat_template_kwargs tokenize: .*; leave it out",
}


@pytest.mark.parametrize("words", VALUES)
def test_a_value_that_cannot_hold_is_refused_before_anything_is_read(words, tmp_path, capsys):
    given = ["--model", "m", "--data", "d.jsonl", "--output_dir", str(tmp_path / "out")]
    assert main([*given, *words.split(" ")]) == 2
    assert re.match(f"train: error: {VALUES[words]}", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


UNREAD = {
    "neftune_noise_alpha": (5.0, "5.0: its noise would give the policy pass other log-probabilities .*; leave it out"),
    "enable_jit_checkpoint": (True, "True: SIGTERM always saves a checkpoint first; leave it out"),
    "train_sampling_strategy": ("group_by_length", "group_by_length: the sampler deals whole groups .*; leave it out"),
    "batch_eval_metrics": (True, "True: evaluation samples completions .*; leave it out"),
    "vllm_gpu_memory_utilization": (0.5, "is read by nothing in this run; add --use_vllm .*, or leave it out"),
    "vllm_server_port": (8001, "is read by nothing in this run; add --use_vllm --vllm_mode server, or leave it out"),
    "sapo_temperature_neg": (2.0, "is read by nothing in this run; add --loss_type sapo, or leave it out"),
    "vespo_k_pos": (5.0, "is read by nothing in this run; add --loss_type vespo, or leave it out"),
    "ref_model_sync_steps": (5, "is read by nothing in this run; add --sync_ref_model, or leave it out"),
    "use_bias_correction_kl": (False, "is read by nothing in this run; set --beta, or leave it out"),
    "entropy_target": (1.0, "is read by nothing in this run; add --use_adaptive_entropy, or leave it out"),
    "optim_args": ("foo=3", "is read by nothing in this run; set its own options .*, or leave it out"),
    "optim_target_modules": ("all-linear", "is read by nothing in this run; set an --optim that projects .*, or leave"),
    "num_completions_to_print": (2, "is read by nothing in this run; add --log_completions, or leave it out"),
    "accelerator_config": (
        {"split_batches": True},
        "split_batches, dispatch_batches: the sampler deals .*; leave them",
    ),
    "fp16": (True, "the CPU would compute in float32 all the same; use --bf16, or leave it out"),
    "multi_objective_aggregation": ("foo", "expects one of sum_then_normalize, normalize_then_sum, got 'foo'"),
    "entropy_coef": (float("nan"), "expects 0 or more, got nan"),
    "off_policy_mask_threshold": (-1.0, "expects 0 or more, got -1.0"),
    "sapo_temperature_pos": (0.0, "expects a number above 0, got 0.0"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_the_run_would_read_and_ignore_is_refused_by_name(name, tmp_path):
    value, message = UNREAD[name]
    args = GRPOConfig(str(tmp_path), use_cpu=True, bf16=False, **{name: value})
    with pytest.raises(UsageError, match=rf"^--{name}:? {message}"):
        check_options(args)


GENERATION = {
    "temperature": (0.3, "the log-probabilities are scored with the run's own value; set --temperature"),
    "top_k": (1, "the log-probabilities are scored with the run's own value; set --top_k"),
    "do_sample": (False, "the completions of a group would all be equal, .*; leave it out"),
    "eos_token_id": (5, "it would end rows where the rest of the run does not; set it in the generation_config.json"),
    "typical_p": (7.0, "expects a number from 0 to 1, got 7.0"),
    "suppress_tokens": ("x", "expects a list of token ids, got 'x'"),
}


@pytest.mark.parametrize("name", GENERATION)
def test_sampling_arguments_that_the_rest_of_the_run_would_not_know_are_refused(name, tmp_path):
    value, message = GENERATION[name]
    args = GRPOConfig(str(tmp_path), use_cpu=True, bf16=False, generation_kwargs={name: value})
    with pytest.raises(UsageError, match=rf"^--generation_kwargs {name}: {message}"):
        check_options(args)


def test_the_seed_of_the_data_decides_about_the_order_of_the_prompts(make_trainer, write_rows):
    def order(**seeds):
        return list(make_trainer(write_rows([1, 2, 0, 1, 1, 0]), **seeds)._get_train_sampler())

    assert order() == order(data_seed=42) != order(data_seed=7) == order(seed=7)


def test_sampling_arguments_are_taken(make_trainer, write_rows):
    options = {"do_sample": True, "no_repeat_ngram_size": 3, "typical_p": 0.9}
    make_trainer(write_rows([1, 2, 0, 1]), generation_kwargs=options, max_steps=1).train()


@pytest.mark.parametrize(
    ("base", "named"), [("some/model", r"\(some/model\)"), (None, r"\(see its adapter_config.json\)")]
)
def test_new_adapters_on_adapters_are_refused_before_anything_is_loaded(tmp_path, capsys, base, named):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    assert main(["--model", str(tmp_path), "--data", "rows.jsonl", "--use_peft", "--output_dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(rf"train: error: --use_peft: .* contains adapters, .*{named} to begin new ones\n", error)


def test_a_tokenizer_without_an_end_is_refused():
    check_ends([3, 5])
    with pytest.raises(UsageError, match="names no token that ends a completion; set eos_token in"):
        check_ends([None, 5])


def test_a_load_balancing_loss_that_cannot_be_computed_is_refused():
    check_router_loss(None, completions_per_slice=4)
    model = build_model(0)  # it has no experts
    with pytest.raises(UsageError, match=r"does not say where its routers are; set --router_aux_loss_coef 0"):
        check_router_loss(model, completions_per_slice=None)


@pytest.mark.parametrize("arguments", [[], ["--model_name_or_path", "m", "--data", "d.jsonl"]], ids=["demo", "data"])
def test_a_tracker_that_is_not_installed_is_said_before_anything_is_loaded(arguments, tmp_path, capsys):
    code = main([*arguments, "--report_to", "comet_ml", "--output_dir", str(tmp_path / "out"), "--bf16", "False"])
    assert code == 2
    assert capsys.readouterr().err == (
        "train: error: --report_to comet_ml: comet-ml is not installed; pip install comet-ml, or leave it out\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_deepspeed_config_that_leaves_out_how_gradients_are_clipped_is_refused():
    described = SimpleNamespace(config={"zero_optimization": {"stage": 2}})
    args = SimpleNamespace(hf_deepspeed_config=described, max_grad_norm=0.5)
    with pytest.raises(UsageError, match=r'no "gradient_clipping", .* instead of --max_grad_norm 0.5; add "grad'):
        check_deepspeed(args)
    described.config["gradient_clipping"] = 0.5
    check_deepspeed(args)
    check_deepspeed(SimpleNamespace(max_grad_norm=0.5))


def test_a_missing_package_is_an_import_error_as_in_trl(monkeypatch):
    monkeypatch.setattr(values, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="--use_liger_kernel: liger-kernel is not installed; pip install"):
        values.check_packages(SimpleNamespace(use_liger_kernel=True))
