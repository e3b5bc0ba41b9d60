"""What Triptych uses of TRL that has no stable name: imported and checked here, and nowhere else.

What is overridden, called or read of a trainer of TRL is compared with the installed one, so that a change is one clear
error.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import transformers
import trl
from trl import GRPOTrainer

from triptych_trainer.errors import IncompatibleVersionError

try:
    from trl.chat_template_utils import add_response_schema, get_training_chat_template, parse_response
    from trl.extras.profiling import profiling_context
    from trl.models.utils import disable_gradient_checkpointing, unwrap_model_for_generation
    from trl.trainer.utils import RepeatSampler, add_fused_lm_head, get_config_model_id, use_adapter
except ImportError as error:
    raise IncompatibleVersionError(
        f"trl {trl.__version__} is not the one that Triptych hooks into: {error}; "
        "install a version that triptych-trainer asks for"
    ) from error

__all__ = [
    "ATTRIBUTES",
    "CLIENT",
    "CONNECTION",
    "CONNECTION_OF_SEVERAL",
    "CONNECTION_TO_ENGINE",
    "METHODS",
    "SFT_ATTRIBUTES",
    "SFT_METHODS",
    "TESTED_TRL",
    "WHILE_TRAINING",
    "RepeatSampler",
    "add_fused_lm_head",
    "add_response_schema",
    "check_attributes",
    "check_connection",
    "check_methods",
    "check_no_images",
    "check_sft_attributes",
    "check_sft_methods",
    "disable_gradient_checkpointing",
    "get_config_model_id",
    "get_training_chat_template",
    "parse_response",
    "profiling_context",
    "unwrap_model_for_generation",
    "use_adapter",
    "vllm_generation_module",
]

TESTED_TRL = "1.16.x"
ENTRIES: Mapping[str, tuple[str, ...]] = {
    "evaluate": ("self", "eval_dataset", "ignore_keys", "metric_key_prefix"),
    "predict": ("self", "test_dataset", "ignore_keys", "metric_key_prefix"),
    "train": ("self", "resume_from_checkpoint", "trial", "ignore_keys_for_eval"),
}
"""What `options/written.py` wraps in a trainer of either kind."""
CHECKPOINT_METHODS: Mapping[str, tuple[str, ...]] = {
    "_finalize_training": ("self", "trial", "num_train_samples", "start_time"),
    "_get_output_dir": ("self", "trial"),
    "_load_best_model": ("self",),
    "_load_from_checkpoint": ("self", "resume_from_checkpoint", "model"),
    "_load_optimizer_and_scheduler": ("self", "checkpoint"),
    "_push_from_checkpoint": ("self", "checkpoint_folder"),
    "_run_epoch": ("self", "model", "epoch"),
    "_save_checkpoint": ("self", "model", "trial"),
    "create_model_card": ("self", "model_name", "dataset_name", "tags"),
}
"""What `checkpoints/resume.py` overrides in a trainer of either kind, with the first parameters of each method."""
METHODS: dict[str, tuple[str, ...]] = {
    # The step (grpo/trl/trainer.py)
    "_prepare_inputs": ("self", "generation_batch"),
    "_generate_and_score_completions": ("self", "inputs"),
    "_calculate_rewards": ("self", "inputs", "prompts", "completions", "completion_ids_list"),
    "_compute_loss": ("self", "model", "inputs"),
    "_get_per_token_logps_and_entropies": (
        *("self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size"),
        *("compute_entropy", "compute_aux_loss"),
    ),
    "get_train_dataloader": ("self",),
    "get_eval_dataloader": ("self", "eval_dataset"),
    "get_test_dataloader": ("self", "test_dataset"),
    "_set_signature_columns_if_needed": ("self",),
    "create_optimizer": ("self", "model"),
    "create_scheduler": ("self", "num_training_steps", "optimizer"),
    "_determine_best_metric": ("self", "metrics", "trial"),
    "_get_train_sampler": ("self", "dataset"),
    **ENTRIES,
    **CHECKPOINT_METHODS,
    "log": ("self", "logs", "start_time"),
}
"""The first parameters of every method of TRL's trainer that is overridden, or called although it is private."""

ATTRIBUTES = (
    *("_buffered_inputs", "_dist", "_logs", "_metrics", "_pending_extra_logs", "_pending_metrics", "_step"),
    *("_entropy_bonus_enabled", "_last_world_entropy", "entropy_coef", "top_entropy_quantile", "use_adaptive_entropy"),
    *("_signature_columns", "_tokenizer", "accelerator", "args", "aux_loss_enabled", "beta", "environments"),
    *("callback_handler", "chat_template_kwargs", "eos_token_ids", "is_deepspeed_enabled", "is_fsdp_enabled"),
    *("log_completions", "mask_truncated_completions", "model_wrapped", "multi_objective_aggregation"),
    *("num_generations", "num_generations_eval", "num_iterations", "processing_class", "ref_model"),
    *("reward_func_names", "reward_weights", "router_aux_loss_coef", "scale_rewards", "state", "temperature"),
    *("use_vllm", "vllm_importance_sampling_clip_max", "vllm_importance_sampling_clip_min"),
    *("vllm_importance_sampling_correction", "vllm_importance_sampling_mode"),
)
"""What is read from or written to a trainer after it is built."""
WHILE_TRAINING = ("_tr_loss", "_globalstep_last_logged", "_total_loss_scalar", "_initial_global_step")
"""What checkpoints add to that; transformers sets these when the training begins (the last one from 5.19 on)."""
WITH_ENGINE = ("_last_loaded_step", "vllm_generation")
WITHOUT_ENGINE = ("generation_config", "generation_kwargs")
CONNECTION = (
    *(
        "_iter_named_params",
        "accelerator",
        "enable_sleep_mode",
        "generation_kwargs",
        "logprobs",
        "max_completion_length",
    ),
    *("min_p", "mode", "model", "repetition_penalty", "structured_outputs_regex", "sync_weights", "temperature"),
    *("tensor_parallel_size", "top_k", "top_p"),
)
"""What `grpo/vllm` uses of TRL's connection to vLLM (``VLLMGeneration``)."""
CONNECTION_TO_ENGINE = ("_llm_weights_sleeping", "llm")
"""What it uses in addition of a connection to an engine in this process."""
CONNECTION_OF_SEVERAL = ("tp_group",)
"""What it uses in addition where several ranks share such an engine."""
CLIENT = ("base_url", "init_communicator", "model", "session")
"""What it uses of the client of a server (``VLLMClient``), which only the main process has."""

SFT_METHODS: dict[str, tuple[str, ...]] = {
    # The step (sft/trl/trainer.py)
    "compute_loss": ("self", "model", "inputs", "return_outputs", "num_items_in_batch"),
    "create_optimizer": ("self", "model"),
    "create_scheduler": ("self", "num_training_steps", "optimizer"),
    "_determine_best_metric": ("self", "metrics", "trial"),
    "floating_point_ops": ("self", "inputs"),
    "get_train_dataloader": ("self",),
    "_set_signature_columns_if_needed": ("self",),
    "_get_train_sampler": ("self", "train_dataset"),
    **ENTRIES,
    **CHECKPOINT_METHODS,
}
"""The same of TRL's SFT trainer."""


SFT_ATTRIBUTES = (
    *("_metrics", "_signature_columns", "_total_train_tokens", "accelerator", "args", "aux_loss_enabled"),
    *("callback_handler", "is_deepspeed_enabled", "is_fsdp_enabled", "model_accepts_loss_kwargs", "model_wrapped"),
    *("processing_class", "router_aux_loss_coef", "state"),
)
"""What is read from or written to an SFT trainer after it is built."""


def check_methods(trainer: type = GRPOTrainer) -> None:
    """Check that every overridden method still begins with the parameters it was written for.

    Raises:
        IncompatibleVersionError: names the method, both signatures, the installed versions and the tested range.
    """
    _check_signatures(trainer, METHODS)


def check_attributes(trainer: GRPOTrainer) -> None:
    """Check that a trainer that was built has every attribute that is used later.

    Raises:
        IncompatibleVersionError: names those that are missing.
    """
    _check_has(trainer, (*ATTRIBUTES, *(WITH_ENGINE if trainer.use_vllm else WITHOUT_ENGINE)), kind="GRPOTrainer")
    if trainer.use_vllm:
        check_connection(trainer.vllm_generation)


def check_connection(connection: Any) -> None:
    """Check that TRL's connection to vLLM, and the client of a server, have every attribute that is used later.

    Raises:
        IncompatibleVersionError: names those that are missing.
    """
    _check_has(connection, CONNECTION, kind="VLLMGeneration")
    if connection.mode == "colocate":
        of_several = CONNECTION_OF_SEVERAL if connection.tensor_parallel_size > 1 else ()
        _check_has(connection, (*CONNECTION_TO_ENGINE, *of_several), kind="VLLMGeneration")
    elif connection.accelerator.is_main_process:
        _check_has(connection, ("vllm_client",), kind="VLLMGeneration")
        _check_has(connection.vllm_client, CLIENT, kind="VLLMClient")


def check_sft_methods(trainer: type) -> None:
    """Check the methods of TRL's SFT trainer as `check_methods` does those of its GRPO trainer.

    Raises:
        IncompatibleVersionError: names the method, both signatures, the installed versions and the tested range.
    """
    _check_signatures(trainer, SFT_METHODS)


def check_sft_attributes(trainer: Any) -> None:
    """Check the attributes of an SFT trainer that was built.

    Raises:
        IncompatibleVersionError: names those that are missing.
    """
    _check_has(trainer, SFT_ATTRIBUTES, kind="SFTTrainer")


def check_no_images(images: Mapping[str, Any]) -> None:
    """Check that TRL's loss hands over no pixels: they are not in its batches, and would be dropped here.

    Raises:
        IncompatibleVersionError: names what it handed over.
    """
    if given := [name for name, value in images.items() if value is not None]:
        raise _changed_method(GRPOTrainer, "_compute_loss", f"it asks for log-probabilities with {', '.join(given)}")


def vllm_generation_module() -> Any:
    """Return TRL's module that connects to vLLM. It is imported here, when it is needed, because few runs do so."""
    import trl.generation.vllm_generation as module

    return module


def _check_signatures(trainer: type, methods: Mapping[str, tuple[str, ...]]) -> None:
    for method, expected in methods.items():
        function = getattr(trainer, method, None)
        if function is None:
            raise _changed_method(trainer, method, "it is gone")
        got = tuple(inspect.signature(function).parameters)
        if got[: len(expected)] != expected:
            raise _changed_method(trainer, method, f"expected parameters {expected}, got {got}")


def _check_has(trainer: object, names: Sequence[str], *, kind: str) -> None:
    if missing := [name for name in names if not hasattr(trainer, name)]:
        raise IncompatibleVersionError(
            f"{kind} of trl {trl.__version__} (transformers {transformers.__version__}) has no attribute "
            f"{', '.join(missing)}, which Triptych uses. Tested with trl {TESTED_TRL}; install that, or open a report "
            "with this line."
        )


def _changed_method(trainer: type, method: str, what: str) -> IncompatibleVersionError:
    return IncompatibleVersionError(
        f"{trainer.__name__}.{method} of trl {trl.__version__} is not the one Triptych overrides: {what}. "
        f"Tested with trl {TESTED_TRL}; install that, or open a report with this line."
    )
