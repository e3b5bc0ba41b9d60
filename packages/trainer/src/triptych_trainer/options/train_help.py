"""``train --help``: Triptych's own options and the most used ones of TRL, without importing TRL."""

from __future__ import annotations

from dataclasses import fields

from triptych_data.option_parser import OptionParser, add_options
from triptych_data.options import DataOptions, PromptOptions

from triptych_trainer.options.common_options import CommonArguments
from triptych_trainer.options.run_options import RunArguments

__all__ = ["TRL_OPTIONS", "parser"]

TRL_OPTIONS = {
    "output_dir": ("DIR", "folder of the model, its checkpoints, log and report", "trainer_output"),
    "num_generations": ("N", "completions per prompt", 8),
    "per_device_train_batch_size": ("N", "completions of a micro-batch", 8),
    "max_completion_length": ("N", "most tokens of a completion", 512),
    "learning_rate": ("X", "its first value", 1e-6),
    "max_steps": ("N", "ends the run; otherwise --num_train_epochs does", -1),
    "use_peft": ("", "train LoRA adapters instead of all weights", False),
    "use_vllm": ("", "sample with vLLM", False),
    "resume_from_checkpoint": ("DIR", "go on from a checkpoint; `latest` is the newest of --output_dir", None),
}
"""Options of TRL that nearly every run sets: metavar, text, and TRL's own default, which a test checks."""

RARE = (
    "mismatch_kl_warn",
    "mismatch_kl_limit",
    "rollout_lag",
    "rollout_seconds",
    "vllm_weight_transfer",
    "max_turns",
    "history",
    "advantage",
    "step_advantage_weight",
    "step_gamma",
    "tool_seconds",
    "mask_over_turn",
    "placement",
    "blank_tool",
    "num_processes",
    "memory_gib",
    "warn_after_steps",
)
"""Triptych's own options that few runs set; only ``--help_all`` lists them."""


def parser() -> OptionParser:
    """A parser that prints the help; a run is parsed with all of TRL's options."""
    made = OptionParser(
        prog="train",
        usage="train --model NAME --data FILE ... [options]\n       train            (the built-in demo)",
        epilog="`train --help_all` lists every option, TRL's too. --config FILE.yaml sets any of them.",
    )
    group = made.add_argument_group("the run (TRL's options, the first to know)")
    group.add_argument("--model_name_or_path", "--model", metavar="NAME", help="what to train: a folder or a hub id")
    for name, (metavar, text, default) in TRL_OPTIONS.items():
        shown = "" if default in (None, False) else f" (default: {default})"
        group.add_argument(f"--{name}", metavar=metavar or None, nargs=None if metavar else "?", help=text + shown)
    add_options(made, DataOptions, title="rows and images")
    add_options(made, PromptOptions, title="prompts")
    shared = [option.name for part in (DataOptions, PromptOptions) for option in fields(part)]
    common = [option.name for option in fields(CommonArguments)]
    own = add_options(made, RunArguments, title="Triptych's own", leave_out=[*shared, *RARE])
    own._group_actions.sort(key=lambda action: action.dest in common)  # what `sft` has too comes behind
    return made
