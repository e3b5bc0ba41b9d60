"""What TRL and transformers say of options that do not fit together, with a remedy that they leave out."""

import re
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["explained"]


def explained(error: ValueError, given: Namespace) -> str:
    """Return the text of an error of a configuration as one line that ends with what to do."""
    text = " ".join(str(error).split()).rstrip(".")
    for pattern, remedy in _REMEDIES.items():
        if found := re.search(pattern, text):
            return remedy(text, found, given)
    return text


def _groups(_: str, found: re.Match[str], given: Namespace) -> str:
    total, group = int(found[1]), int(found[2])
    fits = [str(size) for size in range(2, total + 1) if total % size == 0][:6]
    others = "" if not fits else f"set --num_generations to {' or '.join(fits)}, or "
    size = "generation_batch_size" if given.generation_batch_size else "per_device_train_batch_size"
    return (
        f"a generation has {total} completions (generation_batch_size, or per_device_train_batch_size x processes x "
        f"steps_per_generation), which is not a multiple of --num_generations {group}; {others}make --{size} a "
        f"multiple of {group}"
    )


def _deepspeed(_: str, __: re.Match[str], given: Namespace) -> str:
    return (
        f"--deepspeed {given.deepspeed}: no such file (looked from {Path.cwd()}); name a JSON file of DeepSpeed's, or "
        "leave it out and give --accelerate_config zero2 or zero3"
    )


def _fsdp(_: str, found: re.Match[str], __: Namespace) -> str:
    return (
        f"--fsdp {found[1]}: expected full_shard or shard_grad_op, perhaps with offload; or leave it out and give "
        "--accelerate_config fsdp2"
    )


def _then(remedy: str) -> Callable[[str, re.Match[str], Namespace], str]:
    """The text itself, and a remedy in which the groups of the pattern may stand."""
    return lambda text, found, _: f"{text}; {remedy.format(*found.groups())}"


_REMEDIES: Mapping[str, Callable[[str, re.Match[str], Namespace], str]] = {
    r"generation_batch_size \((\d+)\) must be divisible by num_generations \((\d+)\)": _groups,
    r"must be divisible by the global batch size \((\d+)\)": _then(
        "make --generation_batch_size a multiple of {0}, or leave it out"
    ),
    r"'generation_batch_size' and 'steps_per_generation' can not be both": _then("leave out one of the two"),
    r"global eval batch size .* used for evaluation \((\d+)\)": _then("set --per_device_eval_batch_size {0}"),
    r"requires at least 2 generations.* provided (\d+)": lambda _, found, __: (
        f"--num_generations expects 2 or more, got {found[1]}"
    ),
    r"existing deepspeed config": _deepspeed,
    r"Unknown `fsdp` option: (.*)": _fsdp,
    r"`fsdp=(.*)` is only available with FSDP1": _fsdp,
    r"--tf32 requires": _then("leave it out"),
    r"At most one of fp16 and bf16": _then("leave out --fp16 or --bf16"),
    r"save and eval strategy to match": _then("give --save_strategy and --eval_strategy the same word"),
    r"round multiple of the evaluation|multiple of the evaluation steps": _then(
        "make --save_steps a multiple of --eval_steps"
    ),
    r"lr_scheduler_type \w+ requires an eval strategy": _then("add --eval_strategy steps and --eval_data"),
    r"evaluation strategy .* requires either": _then("set --eval_steps to 1 or more"),
    r"logging strategy .* requires non-zero": _then("set --logging_steps to 1 or more"),
    r"clip_(min|max)` must be set|must be less than vllm_importance": _then(
        "leave out --vllm_importance_sampling_clip_min and --vllm_importance_sampling_clip_max for their defaults"
    ),
}
