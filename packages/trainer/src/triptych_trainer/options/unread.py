"""Options that a run would not read, or only with another option that is not set: refused by name, never ignored."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from trl import GRPOConfig, ModelConfig

from triptych_trainer.errors import UsageError
from triptych_trainer.options.checkpointing import AUTO, CHECKPOINTING
from triptych_trainer.options.run_options import RunArguments
from triptych_trainer.options.values import check_numbers

__all__ = [
    "IN_A_RUN",
    "NEEDS",
    "NEVER",
    "OF_4_BITS",
    "OF_ADAPTERS",
    "OF_TRAININGS",
    "check_given",
    "check_rules",
    "check_unread",
]

_NO_LABELS = "evaluation samples completions and scores them with the rewards, so there are no labels and predictions"
_OWN_SAMPLER = (
    "the sampler deals whole groups of completions to the steps, in the order that --seed or --data_seed says"
)
_OF_WORKERS = (
    *("dataloader_persistent_workers", "dataloader_prefetch_factor", "dataloader_multiprocessing_context"),
    *("dataloader_in_order", "dataloader_pin_memory"),
)
_NO_WORKERS = "the rows contain no images, so that there is nothing for workers to load"
NEVER: Mapping[str, str] = {
    "neftune_noise_alpha": "its noise would give the policy pass other log-probabilities than completions have",
    "average_tokens_across_devices": "the loss is always divided by the tokens of all ranks",
    "include_num_input_tokens_seen": "the log counts them always, as num_tokens",
    "pad_to_multiple_of": "completions are packed after their prompt, without pads",
    "enable_jit_checkpoint": "SIGTERM always saves a checkpoint first",
    "parallelism_config": "a packed row of prompts and completions cannot be split over devices",
    "use_cache": "completions are always sampled from the cache of their prompt, and scored without one",
    **dict.fromkeys(("train_sampling_strategy", "length_column_name"), _OWN_SAMPLER),
    **dict.fromkeys(
        _OF_WORKERS,
        _NO_WORKERS,
    ),
    **dict.fromkeys(
        (
            *("prediction_loss_only", "eval_do_concat_batches", "eval_use_gather_object", "eval_accumulation_steps"),
            *("include_for_metrics", "batch_eval_metrics", "label_names", "do_predict"),
        ),
        _NO_LABELS,
    ),
}
"""Options of transformers and TRL that this trainer cannot read, and why."""
AS_GIVEN = (
    *("eval_steps", "metric_for_best_model", "greater_is_better", "pad_to_multiple_of"),
    *("eval_delay", "num_generations_eval", "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo"),
    *("hub_always_push", "hub_revision", "run_name", "project", "trackio_space_id", "trackio_bucket_id"),
    "trackio_static_space_id",
    *("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs", "fsdp_config", "use_cache"),
    *_OF_WORKERS,
    *("label_names", "average_tokens_across_devices", "include_num_input_tokens_seen"),
)
"""Options that are checked on command lines only: other options set them, a script may use them, or TRL takes them in a
script and does not read them either."""
IN_A_RUN: Mapping[str, str] = {
    "model_init_kwargs": "the model is loaded with --dtype, --attn_implementation and --model_revision; set those",
    "lora_task_type": "these models write text, which is its default",
    "remove_unused_columns": "rewards would get no column of a row but its images",
    "do_eval": "set --eval_strategy steps or epoch, with --eval_data",
    "disable_tqdm": "a run has lines of progress of its own; set --quiet to see only warnings and errors",
    **dict.fromkeys(
        ("bf16_full_eval", "fp16_full_eval"), "evaluation within a run computes as its training does; set --bf16"
    ),
}
"""Options that only a trainer in a script of its own reads."""
OF_ADAPTERS = (
    *("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_target_parameters", "lora_modules_to_save"),
    *("use_rslora", "use_dora"),
)
OF_4_BITS = ("bnb_4bit_quant_type", "use_bnb_nested_quant", "bnb_4bit_quant_storage")


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """Contains options that are read only if something else is set."""

    names: tuple[str, ...]
    """Names of options; one with a ``*`` at its end means all names that begin so."""
    holds: Callable[[Any], bool]
    remedy: str

    def covers(self, name: str) -> bool:
        """Return whether this rule is about an option."""
        return any(name == known or (known[-1] == "*" and name.startswith(known[:-1])) for known in self.names)


OF_TRAININGS = (
    Needs(
        names=("eval_data", "eval_steps", "eval_delay", "num_generations_eval"),
        holds=lambda args: args.eval_strategy != "no" or args.eval_on_start,
        remedy="add --eval_strategy steps or epoch",
    ),
    Needs(
        names=("load_best_model_at_end",),
        holds=lambda args: args.eval_strategy != "no",
        remedy="add --eval_strategy steps or epoch, and --eval_data",
    ),
    Needs(
        names=("metric_for_best_model", "greater_is_better"),
        holds=lambda args: (
            args.load_best_model_at_end
            or args.save_strategy == "best"
            or args.lr_scheduler_type == "reduce_lr_on_plateau"
        ),
        remedy="add --load_best_model_at_end",
    ),
    Needs(
        names=("optim_args",),
        holds=lambda args: args.optim not in ("adamw_torch", "adamw_torch_fused", "adafactor"),
        remedy="set its own options (--adam_beta1, --adam_epsilon, --weight_decay, ...) or another --optim",
    ),
    Needs(
        names=("optim_target_modules",),
        holds=lambda args: any(name in args.optim for name in ("galore", "apollo")),
        remedy="set an --optim that projects gradients (galore_adamw, apollo_adamw, ...)",
    ),
    Needs(
        names=("adam_beta1", "adam_beta2"),
        holds=lambda args: any(word in args.optim for word in ("adam", "ademamix", "lion")),
        remedy="set an --optim that has it (adamw_torch, adamw_8bit, lion_8bit, ...)",
    ),
    Needs(
        names=("adam_epsilon",),
        holds=lambda args: any(word in args.optim for word in ("adam", "ademamix")),
        remedy="set an --optim that has it (adamw_torch, adamw_8bit, ...)",
    ),
    Needs(
        names=("hub_token", "hub_private_repo"),
        holds=lambda args: args.push_to_hub or getattr(args, "log_completions_hub_repo", None) is not None,
        remedy="add --push_to_hub",
    ),
    Needs(names=("hub_*",), holds=lambda args: args.push_to_hub, remedy="add --push_to_hub"),
    Needs(
        names=("project", "trackio_*"),
        holds=lambda args: "trackio" in args.report_to,
        remedy="add --report_to trackio",
    ),
    Needs(names=("run_name",), holds=lambda args: bool(args.report_to), remedy="add --report_to with a tracker"),
    Needs(
        names=("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"),
        holds=lambda args: bool(args.gradient_checkpointing),
        remedy="add --gradient_checkpointing true",
    ),
    Needs(names=("fsdp_config",), holds=lambda args: bool(args.fsdp), remedy="add --fsdp"),
)
"""The rules of transformers' options, for trainings of every kind."""
NEEDS = (
    Needs(
        names=("vllm_server_*", "vllm_group_port"),
        holds=lambda args: args.use_vllm and args.vllm_mode == "server",
        remedy="add --use_vllm --vllm_mode server",
    ),
    Needs(
        names=(
            *("vllm_gpu_memory_utilization", "vllm_max_model_length", "vllm_tensor_parallel_size"),
            "vllm_enable_sleep_mode",
        ),
        holds=lambda args: args.use_vllm and args.vllm_mode == "colocate",
        remedy="add --use_vllm (of a server, they are set where it is started)",
    ),
    Needs(names=("vllm_*",), holds=lambda args: args.use_vllm, remedy="add --use_vllm"),
    Needs(names=("sapo_*",), holds=lambda args: args.loss_type == "sapo", remedy="add --loss_type sapo"),
    Needs(names=("vespo_*",), holds=lambda args: args.loss_type == "vespo", remedy="add --loss_type vespo"),
    Needs(
        names=("delta",),
        holds=lambda args: args.loss_type not in ("cispo", "sapo", "vespo"),
        remedy="set another --loss_type than cispo, sapo and vespo, which do not clip on both sides",
    ),
    Needs(names=("ref_model_*",), holds=lambda args: args.sync_ref_model, remedy="add --sync_ref_model"),
    Needs(names=("use_bias_correction_kl",), holds=lambda args: args.beta != 0, remedy="set --beta"),
    Needs(
        names=("entropy_coef_*", "entropy_target"),
        holds=lambda args: args.use_adaptive_entropy,
        remedy="add --use_adaptive_entropy",
    ),
    Needs(
        names=("transformers_continuous_batching_config",),
        holds=lambda args: args.use_transformers_continuous_batching,
        remedy="sampling goes on from the cache of a prompt",
    ),
    Needs(
        names=("log_multimodal", "num_completions_to_print", "log_unique_prompts"),
        holds=lambda args: args.log_completions,
        remedy="add --log_completions",
    ),
    Needs(names=("liger_kernel_config",), holds=lambda args: args.use_liger_kernel, remedy="add --use_liger_kernel"),
    *OF_TRAININGS,
)


def check_unread(args: GRPOConfig) -> None:
    """Check that a configuration sets no option that its trainer would not read.

    Raises:
        UsageError: names the option, and what to set or to leave out.
    """
    found = {name: getattr(args, name) for name, default in _defaults().items() if getattr(args, name) != default}
    check_rules(found, args)
    given = args.accelerator_config
    if getattr(given, "split_batches", False) or getattr(given, "dispatch_batches", None):
        raise UsageError(f"--accelerator_config split_batches, dispatch_batches: {_OWN_SAMPLER}; leave them out")
    if args.fp16 and args.use_cpu:
        raise UsageError("--fp16: the CPU would compute in float32 all the same; use --bf16, or leave it out")


def check_given(given: Mapping[str, Any], args: GRPOConfig, model: ModelConfig, run: RunArguments) -> None:
    """Check the same for the options of a command line, including those of models and of Triptych.

    Raises:
        UsageError: as above.
    """
    for name, why in IN_A_RUN.items():
        if name in given:
            raise UsageError(f"--{name}: {why}" + ("" if "set" in why else "; leave it out"))
    check_rules(given, args)
    check_numbers(model)
    if args.learning_rate == 0 and not run.vision_learning_rate:
        raise UsageError("--learning_rate 0: no weight would change; give a number above 0, or leave it out")
    if run.vision_learning_rate == 0:
        raise UsageError(
            "--vision_learning_rate 0: no weight outside the language model would change; give a number above 0, or "
            "--freeze_vision_modules in its place"
        )
    if (args.eval_strategy != "no" or args.eval_on_start) and not run.eval_data:
        raise UsageError("--eval_strategy, --eval_on_start: nothing is held out to evaluate on; add --eval_data")
    calls = bool(run.tools or run.environment) or run.demo == "look"
    for names, holds, remedy in (
        (OF_ADAPTERS, model.use_peft, "add --use_peft"),
        (OF_4_BITS, model.load_in_4bit, "add --load_in_4bit"),
        (("max_tool_calling_iterations",), calls, "add --tools or --environment"),
        (("mismatch_kl_warn", "mismatch_kl_limit"), args.use_vllm, "add --use_vllm"),
        (("rollout_seconds",), args.use_vllm and args.vllm_mode == "server", "add --use_vllm --vllm_mode server"),
        (("verdict",), run.rollouts, "write rollouts"),
        (("memory_gib",), getattr(args, CHECKPOINTING) == AUTO, "set --gradient_checkpointing auto"),
        (("memory_gib",), run.memory_forecast, "set --memory_forecast true"),
        (("memory_gib",), not calls, "no run with tools is forecast"),
        (("shared_attention",), run.group_sharing != "off", "leave out --group_sharing off"),
        (("placement",), model.model_name_or_path is None, "run the first demo"),
        (("model_revision",), not Path(model.model_name_or_path or "").is_dir(), "name a model of the hub"),
    ):
        for name in names:
            if name in given and not holds:
                raise UsageError(f"--{name} is read by nothing in this run; {remedy}, or leave it out")


def check_rules(
    given: Mapping[str, Any], args: Any, *, never: Mapping[str, str] = NEVER, needs: Sequence[Needs] = NEEDS
) -> None:
    """Check given options by rules: those that are never read, and those that need another option.

    Raises:
        UsageError: as above.
    """
    for name, value in given.items():
        if name in never:
            shown = value if isinstance(value, (bool, int, float, str)) else "..."
            raise UsageError(f"--{name} {shown}: {never[name]}; leave it out")
        rule = next((rule for rule in needs if rule.covers(name)), None)
        if rule is not None and not rule.holds(args):
            raise UsageError(f"--{name} is read by nothing in this run; {rule.remedy}, or leave it out")


def _defaults() -> Mapping[str, Any]:
    """The defaults of the options that the rules are about; without `AS_GIVEN`."""
    found = {}
    for option in fields(GRPOConfig):
        default = option.default_factory() if option.default_factory is not MISSING else option.default
        if option.name in NEVER or any(rule.covers(option.name) for rule in NEEDS):
            found[option.name] = default
    return {name: default for name, default in found.items() if name not in AS_GIVEN}
