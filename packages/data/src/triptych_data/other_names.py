"""Names that other trainers give to options, for the refusal of an option that Triptych does not have."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

__all__ = ["nearest_option"]

NAMES: dict[tuple[str, ...], str] = {
    (
        "data",
    ): "dataset dataset_name dataset_path data_path files data_files data_file_paths train_data train_file train_files",
    ("eval_data",): "eval_dataset eval_file val_data val_dataset val_files validation_file test_data test_file",
    ("image_root",): "image_folder image_folders image_dir images_dir image_path media_dir",
    ("model_name_or_path", "model"): "model_name model_path model_id checkpoint ckpt pretrained",
    ("output_dir", "out"): "out output output_path output_folder out_dir save_dir save_path",
    ("out",): "output_dir",
    ("limit",): "rows num_rows max_rows samples num_samples max_samples examples num_examples max_examples",
    ("reward",): "rewards reward_func reward_funcs reward_fn reward_function reward_functions",
    ("num_generations",): "n group_size rollout_n num_rollouts num_completions",
    ("max_completion_length",): "max_tokens max_new_tokens max_output_tokens max_response_length",
    ("max_length", "max_prompt_tokens"): "max_seq_length max_seq_len cutoff_len max_prompt_length",
    ("per_device_train_batch_size",): "batch_size train_batch_size micro_batch_size",
    ("learning_rate",): "lr",
    ("vision_learning_rate",): "vit_lr vision_lr",
    ("num_train_epochs",): "epochs num_epochs total_epochs",
    ("max_steps",): "steps num_steps train_steps total_steps max_train_steps",
    ("beta",): "kl kl_coef kl_loss_coef",
    ("use_peft",): "peft lora use_lora",
    ("lora_r",): "lora_rank rank",
    ("lora_target_modules",): "target_modules lora_target",
    ("dtype",): "torch_dtype precision",
    ("attn_implementation",): "attn attn_impl flash_attn",
    ("freeze_vision_modules",): "freeze_vit freeze_vision freeze_vision_tower",
    ("max_pixels",): "image_max_pixels max_image_size",
    ("num_processes",): "gpus n_gpus num_gpus nproc_per_node devices world_size",
    ("accelerate_config",): "config_file",
    ("memory_gib",): "memory memory_gb gpu_memory vram",
    ("resume_from_checkpoint",): "resume resume_from",
    ("report_to",): "wandb tracker logger",
    ("environment",): "env environments environment_factory",
}
"""What an option is called here (the first name that a command has counts), and elsewhere."""
KNOWN = {name: here for here, names in NAMES.items() for name in names.split()}
OF_ANY_COMMAND = {name: here for here in NAMES for name in here} | KNOWN
ALL_ROWS = "; this command reads all rows, so name a file with fewer of them"
"""What is said where a command that has no `--limit` is asked to take fewer rows."""


def nearest_option(name: str, known: Sequence[str]) -> str:
    """Return a question that proposes one of the options ``known`` (`--data`), or nothing.

    The name that another trainer gives to an option is not compared by its letters: `--max_rows` is `--limit`, and
    not `--max_turns`.
    """
    bare, options = name.lstrip("-"), [option.lstrip("-") for option in known]
    here = {other: next((word for word in words if word in options), None) for other, words in OF_ANY_COMMAND.items()}
    if bare in here:
        found = here[bare]
    else:
        others = [other for other, option in here.items() if option is not None]
        near = difflib.get_close_matches(bare, [*options, *others], n=1)
        found = next((here.get(word) if word not in options else word for word in near), None)
    if found is None and OF_ANY_COMMAND.get(bare) == ("limit",) and "data" in options:
        return ALL_ROWS
    return f"; did you mean --{found}?" if found else ""
