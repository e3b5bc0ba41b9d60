"""Every option of TRL's GRPOConfig has an effect in a run, or is refused by name where it has none."""

from dataclasses import fields

import pytest
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.trl.optimizing import unread_of_optim_args
from triptych_trainer.options.arguments import parse_run
from triptych_trainer.options.refusals import check_options
from triptych_trainer.options.unread import AS_GIVEN, IN_A_RUN, NEEDS, NEVER
from trl import GRPOConfig

CHANGES: dict[str, str] = {
    "the trained weights": """
        router_aux_loss_coef cast_lm_head_to_fp32 disable_dropout num_generations max_completion_length
        shuffle_dataset generation_batch_size steps_per_generation temperature top_p top_k min_p
        generation_kwargs chat_template_kwargs repetition_penalty beta num_iterations epsilon epsilon_high
        importance_sampling_level reward_weights multi_objective_aggregation scale_rewards loss_type
        mask_truncated_completions sync_ref_model top_entropy_quantile entropy_coef use_adaptive_entropy
        off_policy_mask_threshold max_tool_calling_iterations per_device_train_batch_size num_train_epochs
        max_steps learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps optim weight_decay
        gradient_accumulation_steps max_grad_norm bf16 fp16 tf32 seed data_seed full_determinism
        label_smoothing_factor resume_from_checkpoint ignore_data_skip use_vllm
    """,
    "what is evaluated, logged and saved": """
        per_device_eval_batch_size eval_strategy eval_on_start dataloader_drop_last logging_strategy
        logging_steps logging_first_step logging_nan_inf_filter log_level log_level_replica log_on_each_node
        report_to log_completions log_completions_hub_repo output_dir save_strategy push_to_hub
        save_steps save_total_limit save_only_model save_on_each_node
        skip_memory_metrics debug restore_callback_states_from_checkpoint
    """,
    "time, memory and processes": """
        activation_checkpointing gradient_checkpointing torch_compile torch_compile_backend
        torch_compile_mode use_liger_kernel torch_empty_cache_steps use_cpu accelerator_config deepspeed
        fsdp ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend
        ddp_timeout ds3_gather_for_generation
    """,
    "what is loaded": "trust_remote_code",
    "nothing, and says so": """
        auto_find_batch_size cache_implementation dataloader_num_workers
        use_transformers_continuous_batching
    """,
    "the same as the option that it is an older name of": "use_transformers_paged",
    "nothing, because launchers and scripts read it": "local_rank do_train",
}
"""What the options change that no rule of `unread.py` is about. Each one was tried on 2026-11-27 in runs that differ in
nothing else, but for those of vLLM, several processes, CUDA, fp16, DeepSpeed and liger-kernel, `torch_compile`,
`resume_from_checkpoint` and `ignore_data_skip`."""


def test_every_option_has_an_effect_or_a_rule():
    told = {name: what for what, names in CHANGES.items() for name in names.split()}
    ruled = {*NEVER, *IN_A_RUN}
    ruled |= {option.name for option in fields(GRPOConfig) if any(rule.covers(option.name) for rule in NEEDS)}
    assert {option.name for option in fields(GRPOConfig)} <= set(told) | ruled
    known = {*NEVER, *(name for name in AS_GIVEN if any(rule.covers(name) for rule in NEEDS))}
    assert set(AS_GIVEN) <= known, "an option of the command line only is covered by no rule"
    assert not set(told) & ruled, "an option whose effect is known needs no rule"


UNREAD = {
    "--use_cache true": "--use_cache True: completions are always sampled from the cache of their prompt",
    "--dataloader_pin_memory false": "--dataloader_pin_memory False: the rows contain no images",
    "--dataloader_persistent_workers true": "--dataloader_persistent_workers True: the rows contain no images, so",
    "--label_names x": "--label_names ...: evaluation samples completions and scores them with the rewards",
    "--average_tokens_across_devices false": "--average_tokens_across_devices False: the loss is always divided by",
    "--include_num_input_tokens_seen true": "--include_num_input_tokens_seen True: the log counts them always, as num",
    "--disable_tqdm true": "--disable_tqdm: a run has lines of progress of its own; set --quiet to see only",
    "--run_name r": "--run_name is read by nothing in this run; add --report_to with a tracker, or leave it out",
    "--project r": "--project is read by nothing in this run; add --report_to trackio, or leave it out",
    "--hub_token t": "--hub_token is read by nothing in this run; add --push_to_hub, or leave it out",
    "--hub_revision t": "--hub_revision is read by nothing in this run; add --push_to_hub, or leave it out",
    "--optim sgd --adam_beta1 0.5": "--adam_beta1 is read by nothing in this run; set an --optim that has it",
    "--optim lion_8bit --adam_epsilon 0.5": "--adam_epsilon is read by nothing in this run; set an --optim that has it",
    '--fsdp_config {"min_num_params":1}': "--fsdp_config is read by nothing in this run; add --fsdp, or leave it out",
    '--gradient_checkpointing false --gradient_checkpointing_kwargs {"use_reentrant":false}': (
        "--gradient_checkpointing_kwargs is read by nothing in this run; add --gradient_checkpointing true, or leave"
    ),
}


@pytest.mark.parametrize("words", UNREAD)
def test_an_option_without_effect_is_refused_by_name(words, tmp_path):
    with pytest.raises(UsageError) as refused:
        parse_run(["--model", "m", "--data", "d.jsonl", "--output_dir", str(tmp_path), *words.split(" ")])
    assert str(refused.value).startswith(UNREAD[words])


def test_what_belongs_to_an_option_that_is_set_is_taken(tmp_path):
    given = ["--model", "m", "--data", "d.jsonl", "--output_dir", str(tmp_path), "--optim", "adamw_8bit"]
    for words in (
        ["--adam_beta1", "0.5", "--run_name", "r", "--report_to", "tensorboard", "--save_total_limit", "2"],
        ["--gradient_checkpointing_kwargs", '{"use_reentrant": false}'],
        ["--log_completions", "true", "--log_completions_hub_repo", "me/r", "--hub_token", "t"],
    ):
        parse_run([*given, *words])


VALUES = {
    "logging_steps": (-1, "--logging_steps expects a number above 0, got -1"),
    "num_completions_to_print": (0, "--num_completions_to_print expects 1 or more, got 0"),
    "gradient_checkpointing_kwargs": ({"every_n_layers": 2}, "--gradient_checkpointing_kwargs, .* every_n_layers: "),
    "accelerator_config": (
        {"gradient_accumulation_kwargs": {"num_steps": 2}},
        "--accelerator_config gradient_accumulation_kwargs num_steps: .*; set --gradient_accumulation_steps",
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_would_end_the_run_later_or_count_twice_is_refused(name, tmp_path):
    value, message = VALUES[name]
    with pytest.raises(UsageError, match=message):
        check_options(GRPOConfig(str(tmp_path), use_cpu=True, bf16=False, log_completions=True, **{name: value}))


@pytest.mark.parametrize(
    ("optim", "given", "unread"),
    [
        ("sgd", "momentum=0.9,foo=3", ["foo"]),
        ("sgd", "nesterov=false", []),
        ("rmsprop", "alpha=0.99,mometum=1", ["mometum"]),
        ("sgd", None, []),
    ],
)
def test_entries_that_an_optimizer_does_not_read_are_found(optim, given, unread, tmp_path, loaded):
    args = GRPOConfig(str(tmp_path), use_cpu=True, bf16=False, optim=optim, optim_args=given)
    assert unread_of_optim_args(args, loaded[0]) == unread
    assert args.optim_args == given
