"""Values that no run can use: some would end in a traceback much later, others would silently train nothing."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from triptych_data.option_parser import nearest

from triptych_trainer.errors import MissingPackageError, UsageError
from triptych_trainer.options.corrections import CORRECTION_MODES

__all__ = [
    "SFT_WORDS",
    "WORDS",
    "check_numbers",
    "check_packages",
    "check_steps",
    "check_values",
    "check_weights",
    "check_words",
]

Rule = tuple[Callable[[float], bool], str]
_COUNT: Rule = (lambda value: value >= 1, "1 or more")
_POSITIVE: Rule = (lambda value: 0 < value < math.inf, "a number above 0")
_NOT_NEGATIVE: Rule = (lambda value: 0 <= value < math.inf, "0 or more")
_SHARE: Rule = (lambda value: 0 <= value <= 1, "a number from 0 to 1")
_SEED: Rule = (lambda value: 0 <= value < 2**32, "a whole number from 0 to 2**32 - 1")
_PORT: Rule = (lambda value: 1 <= value <= 65_535, "a port from 1 to 65535")
_BELOW_ONE: Rule = (lambda value: 0 <= value < 1, "a number from 0 to below 1")
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(
        (
            *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
            *("steps_per_generation", "generation_batch_size", "num_iterations", "save_total_limit"),
            *("ref_model_sync_steps", "max_completion_length", "ddp_timeout", "num_generations_eval"),
            *("vllm_tensor_parallel_size", "vllm_max_model_length", "lora_r", "lora_alpha"),
            "num_completions_to_print",
        ),
        _COUNT,
    ),
    **dict.fromkeys(
        (
            *("temperature", "repetition_penalty", "epsilon", "epsilon_high", "delta", "adam_epsilon", "save_steps"),
            *("sapo_temperature_neg", "sapo_temperature_pos", "vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg"),
            *("vespo_lambda_neg", "eval_steps", "vllm_server_timeout", "logging_steps"),
        ),
        _POSITIVE,
    ),
    **dict.fromkeys(
        (
            *("learning_rate", "weight_decay", "max_grad_norm", "beta", "top_k", "entropy_coef", "entropy_coef_min"),
            *("entropy_coef_max", "entropy_coef_delta", "entropy_target", "off_policy_mask_threshold"),
            *("router_aux_loss_coef", "eval_delay", "warmup_steps"),
        ),
        _NOT_NEGATIVE,
    ),
    **dict.fromkeys(("min_p", "top_entropy_quantile", "ref_model_mixup_alpha"), _SHARE),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "lora_dropout"), _BELOW_ONE),
    **dict.fromkeys(("seed", "data_seed"), _SEED),
    **dict.fromkeys(("vllm_server_port", "vllm_group_port"), _PORT),
    "num_generations": (lambda value: value >= 2, "2 or more"),
    "vllm_gpu_memory_utilization": (lambda value: 0 < value <= 1, "a number above 0 and at most 1"),
    "top_p": (lambda value: 0 < value <= 1, "a number above 0 and at most 1"),
    "num_train_epochs": (math.isfinite, "a finite number"),
    "max_steps": (lambda value: value == -1 or value >= 1, "1 or more, or -1 for as long as --num_train_epochs says"),
    "label_smoothing_factor": (lambda value: value == 0, "0, because GRPO's loss has no labels to smooth"),
}
"""The conditions that a number may have to meet; "not a number" meets none of them."""
OF_STEPS = ("logging_steps", "save_steps", "eval_steps", "warmup_steps", "num_train_epochs")
WORDS: Mapping[str, tuple[str, ...]] = {
    "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "importance_sampling_level": ("token", "sequence"),
    "scale_rewards": ("group", "batch", "none"),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    "vllm_mode": ("server", "colocate"),
    "vllm_importance_sampling_mode": CORRECTION_MODES,
}
"""What options may be whose type at TRL is any text; a test compares these words with TRL's code."""
SFT_WORDS: Mapping[str, tuple[str, ...]] = {
    "loss_type": ("nll", "dft"),
    "train_sampling_strategy": ("random", "sequential"),
}
"""The same for supervised fine-tuning."""
SMALLEST_WEIGHT, LARGEST_WEIGHT = 1e-18, 1e18
"""Weights of rewards: the squares of what they make of a reward, which its spread needs, are neither 0 nor infinite."""
PACKAGES = {"use_vllm": "vllm", "use_liger_kernel": "liger_kernel"}


def check_values(args: Any, *, words: Mapping[str, tuple[str, ...]] = WORDS) -> None:
    """Check the numbers and words of a run before anything is loaded; ``words`` are what some options may be.

    Raises:
        UsageError: names the option, what it expects and what it got.
    """
    check_numbers(args)
    check_words(args, words)
    if args.max_steps == -1 and not args.num_train_epochs > 0:
        raise UsageError(f"--num_train_epochs expects a number above 0, got {args.num_train_epochs}")
    if args.learning_rate * args.weight_decay >= 1:
        raise UsageError(
            f"--weight_decay {args.weight_decay:g}: with --learning_rate {args.learning_rate:g} a step would take "
            f"away {args.learning_rate * args.weight_decay:g} times every weight; give a smaller number, such as 0.1"
        )
    check_weights(getattr(args, "reward_weights", None))
    for name, others in (("top_k", "2 or more"), ("min_p", "a number below 1")):
        if (value := getattr(args, name, None)) == 1:
            raise UsageError(
                f"--{name} {value}: the completions of a group would all be equal, so that nothing could be learned; "
                f"give {others}, or leave it out"
            )


def check_words(args: Any, words: Mapping[str, tuple[str, ...]]) -> None:
    """Check the options that may only be some words.

    Raises:
        UsageError: as above, with the nearest word.
    """
    for name, known in words.items():
        value = getattr(args, name, None)
        if value is not None and value not in known:
            raise UsageError(f"--{name} expects one of {', '.join(known)}, got {value!r}{nearest(str(value), known)}")


def check_numbers(args: Any, *, names: Iterable[str] = RULES) -> None:
    """Check the numbers of options of any kind, those of adapters too; `names` are the options.

    Raises:
        UsageError: as above.
    """
    for name in names:
        holds, expected = RULES[name]
        value = getattr(args, name, None)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not holds(value):
            raise UsageError(f"--{name} expects {expected}, got {value}")


def check_weights(weights: Sequence[float] | None) -> None:
    """Check the weights of rewards, None where none are given.

    Raises:
        UsageError: one is no number that leaves something of its reward, or all are 0.
    """
    for weight in weights or ():
        if not math.isfinite(weight):
            raise UsageError(f"--reward_weights expects a number for each reward, got {weight}")
        if weight and not SMALLEST_WEIGHT <= abs(weight) <= LARGEST_WEIGHT:
            raise UsageError(
                f"--reward_weights: {weight:g} leaves nothing of a reward as float32; give a number between "
                f"{SMALLEST_WEIGHT:g} and {LARGEST_WEIGHT:g}, or 0"
            )
    if weights and not any(weights):
        raise UsageError("--reward_weights: every weight is 0, so that nothing could be learned; give one above 0")


def check_steps(args: Any) -> None:
    """Check the numbers of steps and epochs before transformers makes them whole.

    Raises:
        UsageError: as above.
    """
    check_numbers(args, names=OF_STEPS)


def check_packages(args: Any) -> None:
    """Check that the packages are installed that the options of a run need.

    Raises:
        MissingPackageError: names the option and the package.
    """
    for name, package in PACKAGES.items():
        if getattr(args, name, False) and package not in sys.modules and find_spec(package) is None:
            shown = package.replace("_", "-")
            raise MissingPackageError(f"--{name}: {shown} is not installed; pip install {shown}, or leave it out")
